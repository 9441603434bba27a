"""Networks: shapes, the way of the context, initialization, and what each layer computes."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from vaekit.course import CVAE, VAE
from vaekit.errors import ConfigError, DataError
from vaekit.nets import MLP, Activation, ConvDecoder, ConvEncoder, Network, ResNetDecoder, ResNetEncoder, initialize
from vaekit.nets.base import ACTIVATIONS
from vaekit.nets.stages import Activate, down, stage_sizes, up

SMALL = {"channels": (4, 8), "dense": 16}
SIZES = [(28, 28), (32, 32), (64, 64), (65, 47), (9, 13), (8, 8), (1, 30)]

ENCODERS: dict[str, Callable[..., Network]] = {
    "mlp": partial(MLP, hidden=(16, 16)),
    "conv": partial(ConvEncoder, **SMALL),
    "conv-planes": partial(ConvEncoder, **SMALL, context="planes"),
    "conv-layer": partial(ConvEncoder, **SMALL, norm="layer"),
    "resnet": partial(ResNetEncoder, **SMALL, blocks=2),
    "resnet-plain": partial(ResNetEncoder, **SMALL, group_norm=False),
}
DECODERS: dict[str, Callable[..., Network]] = {
    "mlp": partial(MLP, hidden=(16, 16)),
    "conv": partial(ConvDecoder, **SMALL),
    "conv-planes": partial(ConvDecoder, **SMALL, context="planes"),
    "conv-layer": partial(ConvDecoder, **SMALL, norm="layer"),
    "resnet": partial(ResNetDecoder, **SMALL, blocks=2),
    "resnet-plain": partial(ResNetDecoder, **SMALL, group_norm=False),
}
encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
decoders = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Shapes


@encoders
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_encoders_take_images_of_any_size(
    encoder: Callable[..., Network], size: tuple[int, int], channels: int
) -> None:
    net = encoder((channels, *size))
    assert net.out_shape == (16,)
    assert net(torch.rand(2, channels, *size)).shape == (2, 16)


@decoders
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_decoders_make_images_of_any_size(
    decoder: Callable[..., Network], size: tuple[int, int], channels: int
) -> None:
    net = decoder((6,), (channels, *size))
    assert net.out_shape == (channels, *size)
    assert net(torch.randn(2, 6)).shape == (2, channels, *size)


@pytest.mark.parametrize("n", range(1, 20))
def test_a_stage_halves_a_size_rounding_up_and_its_transpose_gives_it_back(n: int) -> None:
    half = math.ceil(n / 2)
    assert stage_sizes((1, n, 7), (2,)) == [(n, 7), (half, 4)]
    assert down(1, 1, (n, 7))(torch.zeros(1, 1, n, 7)).shape == (1, 1, half, 4)
    assert up(1, 1, (n, 7))(torch.zeros(1, 1, half, 4)).shape == (1, 1, n, 7)


@encoders
def test_encoders_treat_leading_dimensions_as_a_loop_would(encoder: Callable[..., Network]) -> None:
    net = encoder((2, 9, 13), context_size=3).double()
    x, c = torch.rand(4, 5, 2, 9, 13, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(net(x, c), torch.stack([net(rows, c) for rows in x]))


@decoders
def test_decoders_treat_leading_dimensions_as_a_loop_would(decoder: Callable[..., Network]) -> None:
    net = decoder((6,), (2, 9, 13), context_size=3).double()
    z, c = torch.randn(4, 5, 6, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    out = net(z, c)
    torch.testing.assert_close(out, torch.stack([net(rows, c) for rows in z]))
    assert not torch.allclose(out, net(z, c.flip(0)))  # the context of another row is another output
    torch.testing.assert_close(out[1, 2], net(z[1, 2], c[2]))
    assert net(z[:, :0], c[:0]).shape == (4, 0, 2, 9, 13)


# What reaches what


def covered(net: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether every input has a gradient to the outputs, weighted at random so that nothing cancels."""
    x.requires_grad_()
    y = net(x)
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), x)
    return bool((gradient != 0).all())


@encoders
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_pixel_reaches_the_features(encoder: Callable[..., Network], size: tuple[int, int]) -> None:
    net = encoder((3, *size), activation="silu").double()
    assert covered(net, torch.rand(1, 3, *size, dtype=torch.float64))


def test_coverage_notices_pixels_that_a_stride_skips() -> None:
    assert not covered(nn.Conv2d(1, 1, 1, stride=2), torch.rand(1, 1, 8, 8))


@decoders
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 30)], ids=str)
def test_every_latent_reaches_every_pixel(decoder: Callable[..., Network], size: tuple[int, int]) -> None:
    net = decoder((6,), (3, *size), activation="silu").double()
    jacobian = torch.autograd.functional.jacobian(net, torch.randn(6, dtype=torch.float64))
    assert jacobian.shape == (3, *size, 6)
    assert (jacobian != 0).all()


@pytest.mark.parametrize(
    ("make", "x"),
    [(partial(make, (2, 9, 13)), torch.rand(5, 2, 9, 13)) for make in ENCODERS.values()]
    + [(partial(make, (6,), (2, 9, 13)), torch.randn(5, 6)) for make in DECODERS.values()],
    ids=[*(f"encoder-{name}" for name in ENCODERS), *(f"decoder-{name}" for name in DECODERS)],
)
def test_the_context_changes_the_output_and_every_parameter_has_a_gradient(
    make: Callable[..., Network], x: Tensor
) -> None:
    net = make(context_size=3, activation="silu")
    c = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])].requires_grad_()
    y = net(x, c)
    assert ((y - net(x, c.roll(1, 1))).flatten(1).abs().amax(1) > 1e-6).all()
    (y * torch.randn_like(y)).sum().backward()
    assert c.grad is not None
    assert (c.grad != 0).all()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@encoders
def test_a_context_that_the_network_was_not_made_for_is_refused(encoder: Callable[..., Network]) -> None:
    x = torch.rand(5, 1, 8, 8)
    with pytest.raises(DataError, match=r"a context of width 3 .* got none"):
        encoder((1, 8, 8), context_size=3)(x)
    with pytest.raises(DataError, match=r"a context of width 0 .* shape \(5, 3\)"):
        encoder((1, 8, 8))(x, torch.rand(5, 3))
    with pytest.raises(DataError, match=r"\(\.\.\., 1, 8, 8\), got \(5, 1, 4, 16\)"):
        encoder((1, 8, 8))(torch.rand(5, 1, 4, 16))


# What the layers compute


def test_film_scales_by_one_plus_gamma_and_shifts_by_beta() -> None:
    activate = Activate(4, nn.BatchNorm2d(4), 3, "tanh").eval()
    h, c = 3 * torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    W = activate.film.weight
    gamma, beta = c @ W[:4].T, c @ W[4:].T
    expected = torch.tanh((1 + gamma)[..., None, None] * h / math.sqrt(1 + 1e-5) + beta[..., None, None])
    torch.testing.assert_close(activate(h, c), expected)


@pytest.mark.parametrize("name", ["conv", "conv-layer", "resnet"])
def test_without_scale_and_shift_a_conditional_network_is_the_unconditional_one(name: str) -> None:
    plain, conditional = (DECODERS[name]((6,), (2, 9, 13), size) for size in (0, 3))
    missing = conditional.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    for parameter in missing:
        nn.init.zeros_(conditional.get_parameter(parameter))
    z = torch.randn(5, 6)
    torch.testing.assert_close(conditional(z, torch.randn(5, 3)), plain(z))


def test_planes_are_one_more_input_channel_for_each_element_of_the_context() -> None:
    net = ConvEncoder((2, 9, 13), 3, **SMALL, context="planes")
    bare = ConvEncoder((5, 9, 13), **SMALL)
    bare.load_state_dict(net.state_dict())
    x, c = torch.rand(4, 2, 9, 13), torch.randn(4, 3)
    planes = c[:, :, None, None] * torch.ones(9, 13)
    torch.testing.assert_close(net(x, c), bare(torch.cat((x, planes), 1)))


def test_a_residual_block_whose_last_convolution_is_zero_is_its_skip() -> None:
    net = ResNetEncoder((1, 9, 13), **SMALL, blocks=2)
    change, keep = net.blocks[0], net.blocks[1]
    for block in (change, keep):
        for parameter in block.conv2.parameters():
            nn.init.zeros_(parameter)
    h = torch.randn(2, 4, 9, 13)
    pooled = change(h, None)
    torch.testing.assert_close(keep(pooled, None), pooled / math.sqrt(2))
    assert pooled.shape == (2, 4, 5, 7)
    # The corner of an odd image is a window of one pixel.
    torch.testing.assert_close(pooled[..., -1, -1], change.skip[1](h[..., -1:, -1:])[..., 0, 0] / math.sqrt(2))


@pytest.mark.parametrize("activation", get_args(Activation))
def test_activations_go_by_name(activation: Activation) -> None:
    net = MLP((3,), (1,), hidden=(4,), activation=activation)
    first, last = net.layers[0], net.layers[-1]
    x = torch.randn(5, 3)
    function = getattr(nn.functional, activation.replace("-", "_"), None) or getattr(torch, activation)
    torch.testing.assert_close(net(x), last(function(first(x))))
    assert ACTIVATIONS.keys() == set(get_args(Activation))


def test_gated_layers_are_linear_times_a_sigmoid() -> None:
    net = MLP((3,), (2,), hidden=(4, 5), gated=True)
    h = x = torch.randn(6, 3)
    weights = list(net.parameters())
    for W, b, V, c in (weights[0:4], weights[4:8]):
        h = (h @ W.T + b) * torch.sigmoid(h @ V.T + c)
    torch.testing.assert_close(net(x), h @ weights[8].T + weights[9])


def test_without_hidden_layers_an_mlp_is_linear() -> None:
    net = MLP((2, 3), (4,), 2, hidden=())
    x, c = torch.randn(5, 2, 3), torch.randn(5, 2)
    W, b = net.parameters()
    torch.testing.assert_close(net(x, c), torch.cat((x.flatten(1), c), 1) @ W.T + b)
    features = MLP((2, 3), hidden=())
    assert features.out_shape == (6,)
    torch.testing.assert_close(features(x), x.flatten(1))


def test_batch_norm_takes_statistics_over_samples_and_rows() -> None:
    net = MLP((3,), hidden=(4,), norm="batch", activation="tanh").double()
    z = torch.randn(7, 5, 3, dtype=torch.float64)
    h = net.layers[0](z)
    mean, var = h.mean((0, 1)), h.var((0, 1), correction=0)
    torch.testing.assert_close(net(z), torch.tanh((h - mean) / (var + 1e-5).sqrt()))
    net.eval()
    running = 0.1 * mean, 0.9 + 0.1 * h.var((0, 1))  # torch's momentum of 0.1, from 0 and 1
    torch.testing.assert_close(net(z), torch.tanh((h - running[0]) / (running[1] + 1e-5).sqrt()))
    torch.testing.assert_close(net(z)[2, 3], net(z[2, 3]))  # in evaluation rows know nothing of each other


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_of_convolutions_leave_zero_mean_and_unit_variance(norm: str) -> None:
    net = ConvDecoder((6,), (2, 9, 13), **SMALL, norm=norm).double()
    seen: list[Tensor] = []
    for activate in net.activations:
        activate.norm.register_forward_hook(lambda module, args, h: seen.append(h))
    net(torch.randn(3, 5, 6, dtype=torch.float64))
    over = (0, 2, 3) if norm == "batch" else (1, 2, 3)
    for h in seen:
        torch.testing.assert_close(h.mean(over), torch.zeros_like(h.mean(over)))
        torch.testing.assert_close(h.var(over, correction=0), torch.ones_like(h.mean(over)), atol=0.01, rtol=0)
    net.eval()
    z = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(net(z)[1:2], net(z[1:2]))


# Sizes and names of parameters


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts() -> None:
    assert count(MLP((1, 28, 28), (10,), 5, hidden=(20, 30))) == (784 + 5 + 1) * 20 + (20 + 1) * 30 + (30 + 1) * 10
    assert count(MLP((784,), hidden=(20, 30), gated=True)) == 2 * ((784 + 1) * 20 + (20 + 1) * 30)
    assert count(MLP((784,), hidden=(20,), norm="batch")) == (784 + 1) * 20 + 2 * 20
    conv = ConvEncoder((1, 28, 28), channels=(3, 5), dense=7)
    assert count(conv) == (1 * 16 + 1) * 3 + (3 * 16 + 1) * 5 + (5 * 49 + 1) * 7
    odd = ConvEncoder((1, 7, 7), channels=(3,), dense=7)
    assert count(odd) == (1 * 9 + 1) * 3 + (3 * 16 + 1) * 7


def test_parameters_have_names_that_say_what_they_are() -> None:
    names = set(ConvEncoder((1, 8, 8), 3, channels=(4,), norm="batch").state_dict())
    linear = {
        f"{layer}.{kind}" for layer in ("convs.0", "activations.0.norm", "dense.1") for kind in ("weight", "bias")
    }
    statistics = {f"activations.0.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert names == {"activations.0.film.weight", *linear, *statistics}


@pytest.mark.parametrize("conditional", [False, True])
def test_default_mlps_have_the_seeded_weights_of_the_assignment(conditional: bool) -> None:
    torch.manual_seed(3)
    course = CVAE(784) if conditional else VAE(784)
    torch.manual_seed(3)
    size = 10 if conditional else 0
    mine = [MLP((1, 28, 28), None, size), nn.Linear(400, 15), nn.Linear(400, 15), MLP((15,), (1, 28, 28), size)]
    for expected, got in zip(course.parameters(), nn.ModuleList(mine).parameters(), strict=True):
        assert torch.equal(expected, got)
    x, z = torch.rand(2, 1, 28, 28), torch.randn(2, 15)
    c = torch.eye(10)[:2] if conditional else None
    torch.testing.assert_close(mine[1](mine[0](x, c)), course.posterior(x, c).mean, rtol=0, atol=0)
    torch.testing.assert_close(mine[3](z, c).sigmoid(), course.likelihood(z, c).mean, rtol=0, atol=0)


# Modules are modules


@decoders
def test_copies_saved_weights_and_traces_compute_the_same(decoder: Callable[..., Network]) -> None:
    make = partial(decoder, (6,), (2, 9, 13), context_size=3)
    net, other = make(), make()
    z, c = torch.randn(2, 5, 6), torch.randn(5, 3)
    y = net(z, c)
    assert not torch.equal(other(z, c), y)
    other.load_state_dict(net.state_dict())
    for twin in (other, copy.deepcopy(net), torch.compile(net, backend="eager", fullgraph=True)):
        torch.testing.assert_close(twin(z, c), y)
    assert net.double()(z.double(), c).dtype == torch.float64  # a context of another dtype is converted


# Initialization


def mean_square_z_score(make: Callable[[], Tensor], expected: float, draws: int = 400) -> float:
    """How many standard errors the mean of independent draws of a statistic lies from what it should be."""
    values = torch.stack([make() for _ in range(draws)]).double()
    return float((values.mean() - expected) / (values.std() / math.sqrt(draws)))


def deep(scheme: str, activation: Activation) -> Tensor:
    """Mean square of the outputs of a network of 6 layers, 24 wide, for an input of mean square 1."""
    net = MLP((24,), (24,), hidden=(24,) * 5, activation=activation)
    initialize(net, scheme)
    return net(torch.ones(1, 24)).pow(2).mean().detach()


def test_he_keeps_the_mean_square_through_rectified_layers() -> None:
    # Each layer multiplies the mean square by fan_in · 2 / fan_in, each rectifier by 1/2; the first has no rectifier.
    assert abs(mean_square_z_score(lambda: deep("he", "relu"), expected=2.0)) < 5
    assert abs(mean_square_z_score(lambda: deep("default", "relu"), expected=2.0)) > 20
    assert abs(mean_square_z_score(lambda: deep("glorot", "relu"), expected=2.0)) > 20


def test_residual_blocks_without_norm_keep_the_mean_square_under_he() -> None:
    block = ResNetEncoder((1, 16, 16), channels=(6,), blocks=2, group_norm=False).blocks[1]

    def ratio() -> Tensor:
        initialize(block, "he")
        x = torch.randn(1, 6, 16, 16)
        inner = (..., slice(2, -2), slice(2, -2))
        return (block(x, None)[inner].pow(2).mean() / x[inner].pow(2).mean()).detach()

    assert abs(mean_square_z_score(ratio, expected=1.0)) < 5


def test_conditional_networks_without_norm_start_at_the_scale_of_unconditional_ones() -> None:
    """He initialization applied to the scale and shift too would multiply the mean square many times over."""
    x, c = torch.rand(20, 1, 16, 16), torch.eye(4)[torch.arange(20) % 4]

    def mean_square(size: int) -> Tensor:
        net = ResNetEncoder((1, 16, 16), size, **SMALL, group_norm=False)
        initialize(net, "he")
        return net(x, c if size else None).pow(2).mean().detach()

    conditional, plain = (torch.stack([mean_square(size) for _ in range(40)]) for size in (4, 0))
    assert conditional.log().mean() - plain.log().mean() < math.log(2)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "linear": (partial(nn.Linear, 12, 12), torch.Size((12,))),
    "convolution": (partial(nn.Conv2d, 4, 4, 3, padding=1), torch.Size((4, 8, 8))),
    "down": (partial(down, 4, 16, (16, 16)), torch.Size((4, 16, 16))),
    "up": (partial(up, 16, 4, (16, 16)), torch.Size((16, 8, 8))),
    "up in 1d": (partial(nn.ConvTranspose1d, 9, 3, 3, stride=3), torch.Size((9, 8))),
    "groups": (partial(nn.Conv2d, 4, 4, 3, padding=1, groups=2), torch.Size((4, 8, 8))),
}


@pytest.mark.parametrize("scheme", ["he", "glorot"])
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_schemes_set_the_variance_of_signals_in_every_kind_of_layer(
    make: Callable[[], nn.Module], shape: torch.Size, scheme: str
) -> None:
    """Away from the borders He doubles the mean square; Glorot, where fans are equal as here, keeps it, both ways."""

    def squares() -> tuple[Tensor, Tensor]:
        layer = make()
        initialize(layer, scheme)
        x = torch.randn(1, *shape, requires_grad=True)
        y = layer(x)
        (back,) = torch.autograd.grad(y, x, torch.randn_like(y))
        inner = (..., slice(2, -2), slice(2, -2)) if len(shape) == 3 else (...,)
        return y[inner].pow(2).mean().detach(), back[inner].pow(2).mean()

    assert abs(mean_square_z_score(lambda: squares()[0], expected=2.0 if scheme == "he" else 1.0)) < 5
    if scheme == "glorot":
        assert abs(mean_square_z_score(lambda: squares()[1], expected=1.0)) < 5


@pytest.mark.parametrize("make", [partial(nn.Linear, 7, 5), partial(nn.Conv2d, 4, 6, 3), partial(nn.Conv1d, 4, 6, 3)])
def test_schemes_are_those_of_torch_where_there_is_no_stride(make: Callable[[], nn.Module]) -> None:
    he = partial(nn.init.kaiming_normal_, nonlinearity="relu")
    for scheme, draw in (("he", he), ("glorot", nn.init.xavier_uniform_)):
        layer, reference = make(), make()
        torch.manual_seed(5)
        initialize(layer, scheme)
        torch.manual_seed(5)
        torch.testing.assert_close(layer.weight, draw(reference.weight))


def test_schemes_apply_to_every_layer_but_norms_and_film_and_default_to_none() -> None:
    model = nn.ModuleDict({"encoder": ResNetEncoder((1, 9, 9), 3, **SMALL), "head": nn.Linear(16, 2)})
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    initialize(model, "default")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    initialize(model, "he")
    for name, value in model.state_dict().items():
        if ".norm." in name or ".film." in name:
            assert torch.equal(value, before[name]), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
        else:
            assert not torch.equal(value, before[name]), name
    with pytest.raises(ConfigError, match="unknown initialization 'gloro'; did you mean 'glorot'"):
        initialize(model, "gloro")


@decoders
def test_the_output_bias_is_the_output_where_the_weights_are_zero(decoder: Callable[..., Network]) -> None:
    net = decoder((6,), (2, 9, 13), context_size=3).double()
    value = torch.randn(2, 9, 13, dtype=torch.float64)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    net.start_output(value)
    shared = value if isinstance(net, MLP) else value.mean((1, 2), keepdim=True).expand_as(value)
    out = net(torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 3))
    torch.testing.assert_close(out, shared.expand_as(out), rtol=0, atol=1e-14)
    assert sum(bool(p.any()) for p in net.parameters()) == 1
    with pytest.raises(RuntimeError, match="expand"):
        net.start_output(value[:, :-1])


@decoders
def test_the_output_starts_at_the_wanted_value_plus_a_scaled_signal(decoder: Callable[..., Network]) -> None:
    net = decoder((6,), (2, 9, 13)).double()
    z = torch.randn(4, 6, dtype=torch.float64)
    net.start_output(torch.zeros(()))
    signal = net(z)
    net.start_output(scale=0.25)
    torch.testing.assert_close(net(z), 0.25 * signal)
    net.start_output(torch.tensor(3.0))
    torch.testing.assert_close(net(z), 3 + 0.25 * signal)


# Options that are refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((4,), hidden=(8, 0)), "hidden must be at least 1, got 8, 0"),
        (lambda: MLP((4,), hidden=(8,), activation="rleu"), "unknown activation 'rleu'; did you mean 'relu'"),
        (lambda: MLP((4,), hidden=(8,), norm="btch"), "unknown norm 'btch'; did you mean 'batch'"),
        (lambda: ConvEncoder((1, 8, 8), norm="group"), "unknown norm 'group'; known: batch, layer"),
        (
            lambda: ConvEncoder((784,)),
            r"needs images \(channels, H, W\) or signals \(channels, L\), got \(784,\); use the name 'mlp'",
        ),
        (lambda: ConvDecoder((6,), (784,)), r"got \(784,\)"),
        (lambda: ConvEncoder((1, 8, 8), channels=()), "at least one stage"),
        (lambda: ConvDecoder((6,), (1, 8, 8), channels=(4, -1)), "channels must be at least 1, got 4, -1"),
        (lambda: ConvDecoder((6,), (1, 8, 8), dense=0), "dense must be at least 1, got 0"),
        (lambda: ConvEncoder((1, 8, 8), 3, context="plane"), "unknown context 'plane'; did you mean 'planes'"),
        (lambda: MLP((4,), hidden=64), r"hidden must be a list, a width for each layer, got 64; pass \[64\]"),
        (lambda: MLP((4,), hidden=(8.5,)), "hidden must be whole numbers, at least 1, got 8.5"),
        (lambda: ResNetEncoder((1, 8, 8), blocks=0), "blocks must be at least 1, got 0"),
        (lambda: ResNetDecoder((6,), (1, 8, 8), blocks=0), "blocks must be at least 1, got 0"),
    ],
)
def test_options_that_make_no_network_are_refused(make: Callable[[], Network], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_context_of_another_number_of_rows_is_refused() -> None:
    net = MLP((3,), (2,), 4, hidden=(5,))
    assert net(torch.rand(2, 6, 3), torch.rand(6, 4)).shape == (2, 6, 2)
    with pytest.raises(
        DataError, match=r"the context, shape \(5, 4\), needs a row for each row of the input, \(6, 3\)"
    ):
        net(torch.rand(6, 3), torch.rand(5, 4))
