"""The assignment's surface: VAE, CVAE, reparametrize, loss_function, hello_vae, and both classes as models."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from vaekit import CVAE, VAE, Composed, elbo, hello_vae, loss_function, one_hot, reparametrize
from vaekit.errors import ConfigError, DataError
from vaekit.likelihoods import Bernoulli
from vaekit.nets import MLP
from vaekit.posteriors import DiagonalNormal
from vaekit.priors import StandardNormal

IMAGE = (1, 28, 28)
UNCONDITIONAL, CONDITIONAL = VAE(784), CVAE(784)


def images(n=4, dtype=torch.float32):
    return torch.rand(n, *IMAGE, generator=torch.Generator().manual_seed(n), dtype=dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seeded(function, *args, **kwargs):
    torch.manual_seed(0)
    return function(*args, **kwargs)


def relative_error(x, y):
    return abs(x - y) / (abs(x) + abs(y))


class Lecture(nn.Module):
    """The course's own class as its slides give it, independent of this package; `wrapped` heads are Sequentials."""

    def __init__(self, input_size=784, latent_size=15, num_classes=0, wrapped=False):
        super().__init__()
        body = [nn.Linear(input_size + num_classes, 400), nn.ReLU()]
        body += [nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU()]
        self.encoder = nn.Sequential(*body) if num_classes else nn.Sequential(nn.Flatten(), *body)
        self.mu_layer = nn.Linear(400, latent_size)
        self.logvar_layer = nn.Linear(400, latent_size)
        if wrapped:
            self.mu_layer, self.logvar_layer = nn.Sequential(self.mu_layer), nn.Sequential(self.logvar_layer)
        self.decoder = nn.Sequential(
            *(nn.Linear(latent_size + num_classes, 400), nn.ReLU()),
            *(nn.Linear(400, 400), nn.ReLU()),
            *(nn.Linear(400, 400), nn.ReLU()),
            *(nn.Linear(400, input_size), nn.Sigmoid(), nn.Unflatten(1, IMAGE)),
        )

    def forward(self, x, c=None):
        h = self.encoder(x if c is None else torch.cat((x.flatten(1), c), dim=-1))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        return self.decoder(z if c is None else torch.cat((z, c), dim=-1)), mu, logvar


def lecture(model, **options):
    return Lecture(num_classes=model.context_size, **options)


def composed(context_size):
    """The same network from parts, created in the same order."""
    return Composed(
        DiagonalNormal(MLP(IMAGE, context_size=context_size), 400, 15),
        StandardNormal(15),
        Bernoulli(MLP((15,), IMAGE, context_size=context_size)),
        latent_size=15,
        context_size=context_size,
        event_shape=IMAGE,
    )


@pytest.fixture(params=[VAE, CVAE])
def model(request):
    return seeded(request.param, 784)


@pytest.fixture
def c(model):
    """Classes for four images, None for an unconditional model."""
    return torch.tensor([3, 1, 4, 1]) if model.context_size else None


# The functions ------------------------------------------------------------------------------------------------------


def test_hello(capsys):
    hello_vae()
    assert capsys.readouterr().out == "Hello from vae.py!\n"


def test_star_import_brings_the_assignment():
    names = {}
    exec("from vaekit import *", names)
    assert {"VAE", "CVAE", "reparametrize", "loss_function", "hello_vae"} <= names.keys()


def test_reparametrize_reference_values():
    z = seeded(reparametrize, torch.zeros(1, 15), torch.ones(1, 15))
    assert z.shape == (1, 15)
    assert relative_error(z.mean().item(), -0.4363) <= 1e-4
    assert relative_error(z.std().item(), 1.6860) <= 1e-4
    assert relative_error(math.e**0.5 * z.std().item(), 1.6860) > 0.1  # what σ = exp(logvar) would give


def test_reparametrize_has_the_moments_and_gradients_of_the_normal():
    mu, logvar = torch.full((200_000, 1), 0.7, requires_grad=True), torch.full((200_000, 1), -1.3, requires_grad=True)
    z = seeded(reparametrize, mu, logvar)
    sigma, n = math.exp(-0.65), len(z)
    assert abs(z.mean().item() - 0.7) < 5 * sigma / n**0.5
    assert abs(z.std().item() - sigma) < 5 * sigma / (2 * n) ** 0.5
    z.sum().backward()
    torch.testing.assert_close(mu.grad, torch.ones_like(mu))
    torch.testing.assert_close(logvar.grad, (z - mu).detach() / 2)  # ∂z/∂logvar = σε/2


def test_loss_function_reference_value():
    x_hat = torch.tensor([[2.0, 5.0], [6.0, 7.0]]).sigmoid().view(1, 1, 2, 2)
    x = torch.tensor([[1.0, 10.0], [9.0, 3.0]]).sigmoid().view(1, 1, 2, 2)
    mu, logvar = torch.ones(1, 15), torch.zeros(1, 15)
    loss = loss_function(x_hat, x, mu, logvar)
    assert loss.shape == ()
    assert relative_error(loss.item(), 8.5079) <= 1e-5
    assert loss_function(x, x_hat, mu, logvar).item() == pytest.approx(8.0731, abs=1e-4)  # arguments swapped


def test_loss_function_sums_over_pixels_and_averages_over_images():
    x_hat, x, mu, logvar = images(3), images(4)[:3], torch.randn(3, 15), torch.randn(3, 15)
    each = [loss_function(*(t[i : i + 1] for t in (x_hat, x, mu, logvar))) for i in range(3)]
    torch.testing.assert_close(loss_function(x_hat, x, mu, logvar), sum(each) / 3)
    assert each[0] > 400  # nats for 784 pixels of noise, not for one


# The layers ---------------------------------------------------------------------------------------------------------


def test_parameter_counts():
    assert sum(p.numel() for p in VAE(784).parameters()) == 1_288_414
    assert sum(p.numel() for p in VAE(784, latent_size=15).parameters()) == 1_288_414
    assert sum(p.numel() for p in CVAE(784).parameters()) == 1_296_414
    assert sum(p.numel() for p in CVAE(784, num_classes=10, latent_size=15).parameters()) == 1_296_414


def test_layers(model):
    linear, relu, extra = nn.Linear, nn.ReLU, model.context_size
    assert type(model.encoder) is type(model.decoder) is nn.Sequential
    body = [linear, relu] * 3
    assert [type(m) for m in model.encoder] == (body if extra else [nn.Flatten, *body])
    assert [type(m) for m in model.decoder] == [*body, linear, nn.Sigmoid, nn.Unflatten]
    widths = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, linear)]
    hidden = [(400, 400)] * 2
    assert widths == [(784 + extra, 400), *hidden, (400, 15), (400, 15), (15 + extra, 400), *hidden, (400, 784)]
    assert (model.input_size, model.latent_size, model.hidden_dim) == (784, 15, 400)


def test_same_seed_gives_the_lectures_weights_and_no_other_draws(model):
    reference = seeded(lecture, model)
    state = torch.get_rng_state()
    built = seeded(type(model), 784)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(built.state_dict()) == list(reference.state_dict())
    for ours, theirs in zip(built.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_forward_is_the_lectures(model, c):
    reference = lecture(model)
    reference.load_state_dict(model.state_dict())
    inputs = (images(),) if c is None else (images(), one_hot(c, 10))
    for ours, theirs in zip(seeded(model, *inputs), seeded(reference, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_forward_shapes(model, c):
    inputs = (images(),) if c is None else (images(), one_hot(c, 10))
    x_hat, mu, logvar = model(*inputs)
    assert x_hat.shape == (4, *IMAGE)
    assert mu.shape == logvar.shape == (4, 15)
    assert (x_hat >= 0).all()
    assert (x_hat <= 1).all()


@pytest.mark.parametrize(("input_size", "shape"), [(64, (1, 8, 8)), (1, (1, 1, 1)), (12, (1, 1, 12))])
def test_any_input_size(input_size, shape):
    x = torch.rand(2, *shape)
    assert VAE(input_size, latent_size=3)(x)[0].shape == x.shape
    assert CVAE(input_size, num_classes=4, latent_size=3)(x, torch.eye(4)[:2])[0].shape == x.shape
    assert VAE(input_size, latent_size=3).sample(2).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float64])
def test_one_hots_of_any_type(dtype):
    model, c = CONDITIONAL, one_hot(torch.tensor([3, 1, 4, 1]), 10)
    for ours, theirs in zip(seeded(model, images(), c.to(dtype)), seeded(model, images(), c), strict=True):
        assert torch.equal(ours, theirs)


def test_the_class_matters():
    model, x = CONDITIONAL, images(1)
    one, two = (seeded(model, x, one_hot(torch.tensor([label]), 10)) for label in (1, 2))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(one, two, strict=True))


def test_decoder_generates_from_latents_beside_the_class():
    model, z, c = CONDITIONAL, torch.randn(10, 15), torch.eye(10)
    digits = model.decoder(torch.cat((z, c), dim=-1))
    assert digits.shape == (10, *IMAGE)
    torch.testing.assert_close(digits, model.decode(z, torch.arange(10)))


# State dicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
def test_state_dicts_of_the_course_load(model, c, wrapped):
    reference = lecture(model, wrapped=wrapped)
    state = reference.state_dict()
    assert ("mu_layer.0.weight" in state) == wrapped
    keys = list(state)
    model.load_state_dict(state)
    assert list(state) == keys  # the caller's dictionary is left as it was
    inputs = (images(),) if c is None else (images(), one_hot(c, 10))
    for ours, theirs in zip(seeded(model, *inputs), seeded(reference, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_state_dicts_of_the_course_load_within_another_module():
    state = {f"vae.{k}": v for k, v in Lecture(wrapped=True).state_dict().items()}
    outer = nn.ModuleDict({"vae": VAE(784)})
    outer.load_state_dict(state)
    assert torch.equal(outer["vae"].mu_layer.weight, state["vae.mu_layer.0.weight"])


@pytest.mark.parametrize(
    "wrong", ["mu_layer.1.weight", "mu_layer.0.weights", "sigma_layer.weight", "0.mu_layer.weight"]
)
def test_wrong_keys_are_refused(wrong):
    state = Lecture().state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        VAE(784).load_state_dict(state | {wrong: torch.zeros(15, 400)})
    del state["logvar_layer.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*logvar_layer\.bias"):
        VAE(784).load_state_dict(state)


def test_state_dicts_of_the_other_class_are_refused():
    with pytest.raises(RuntimeError):
        VAE(784).load_state_dict(CVAE(784).state_dict())


# As models ----------------------------------------------------------------------------------------------------------


def test_likelihood_and_gradient_are_exact_at_saturated_pixels(model, c):
    # Logits of ±200: the float32 sigmoid is exactly 0 or 1. Pixels are 0, 1 and ½ against either.
    logits = torch.tensor([200.0, -200.0]).repeat_interleave(392)
    with torch.no_grad():
        model.decoder[-3].weight.zero_()
        model.decoder[-3].bias.copy_(logits)
    x = torch.tensor([0.0, 1.0, 0.5, 0.0]).repeat(196).view(1, *IMAGE)
    context = None if c is None else one_hot(c[:1], 10)
    likelihood = model.likelihood(torch.zeros(1, 15), context)
    assert set(likelihood.mean.unique().tolist()) == {0.0, 1.0}

    log_p = likelihood.log_prob(x)
    log_p.backward()
    torch.testing.assert_close(log_p.detach(), (x.flatten(1) * logits - softplus(logits)).sum(1))
    torch.testing.assert_close(model.decoder[-3].bias.grad, x.flatten() - logits.sigmoid())

    naive = x * likelihood.mean.log() + (1 - x) * (1 - likelihood.mean).log()
    assert not naive.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_function_is_minus_the_elbo(model, c, dtype):
    model, x = model.to(dtype), images(4, dtype)
    inputs = (x,) if c is None else (x, one_hot(c, 10))
    x_hat, mu, logvar = seeded(model, *inputs)
    draw = seeded(model.draw, x, c)
    loss = loss_function(x_hat, x, mu, logvar)
    torch.testing.assert_close(-elbo(draw).mean(), loss, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
    assert (elbo(draw, kl="sampled") - elbo(draw)).abs().max() > 0.03  # the sampled KL has its own noise


def test_forward_and_draw_have_the_same_gradients(model, c):
    model, x = model.double(), images(4, torch.float64)
    inputs = (x,) if c is None else (x, one_hot(c, 10))
    x_hat, mu, logvar = seeded(model, *inputs)
    by_hand = torch.autograd.grad(loss_function(x_hat, x, mu, logvar), list(model.parameters()))
    by_model = torch.autograd.grad(-elbo(seeded(model.draw, x, c)).mean(), list(model.parameters()))
    torch.testing.assert_close(by_model, by_hand, rtol=1e-9, atol=1e-12)


def test_composed_parts_start_with_the_same_weights_and_give_the_same_draw_loss_and_gradients(model, c):
    parts = seeded(composed, model.context_size)
    for ours, theirs in zip(parts.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    ours, theirs = (seeded(m.draw, images(), c, k=3) for m in (parts, model))
    assert torch.equal(ours.z, theirs.z)
    assert torch.equal(ours.log_w, theirs.log_w)
    losses = [-elbo(draw).mean() for draw in (ours, theirs)]
    assert torch.equal(*losses)
    grads = [torch.autograd.grad(loss, [*m.parameters()]) for loss, m in zip(losses, (parts, model), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert all(g.abs().sum() > 0 for g in grads[0])


def test_densities(model, c):
    draw = seeded(model.draw, images(), c, k=5)
    (level,) = draw.levels
    assert level.z.shape == (5, 4, 15)
    assert draw.log_likelihood.shape == draw.log_w.shape == level.log_q.shape == (5, 4)
    torch.testing.assert_close(level.log_p, -(level.z**2).sum(-1) / 2 - 15 / 2 * math.log(2 * math.pi))
    mu, logvar = level.q.mean, level.q.variance.log()
    torch.testing.assert_close(draw.rate("analytic"), -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(-1))


def test_sample_encode_reconstruct_are_deterministic_given_a_generator_and_have_no_gradient(model, c):
    x = images()
    before = torch.get_rng_state()
    actions = {
        "sample": lambda seed: model.sample(4, c, generator=generator(seed)),
        "noise": lambda seed: model.sample(4, c, generator=generator(seed), noise=True),
        "log_prob": lambda seed: model.log_prob(x, c, k=3, generator=generator(seed)),
    }
    for action in actions.values():
        one, same, other = action(0), action(0), action(1)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert not one.requires_grad
    assert torch.equal(model.encode(x, c), model.encode(x, c))
    assert torch.equal(model.reconstruct(x, c), model.decode(model.encode(x, c), c))
    assert not model.encode(x, c).requires_grad
    assert not model.reconstruct(x, c).requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_and_ranges_of_what_models_return(model, c):
    x = images()
    assert model.encode(x, c).shape == (4, 15)
    assert model.reconstruct(x, c).shape == x.shape
    assert model.log_prob(x, c).shape == (4,)
    samples = model.sample(4, c)
    assert samples.shape == x.shape
    assert 0 < samples.min() < samples.max() < 1
    assert set(model.sample(4, c, noise=True).unique().tolist()) == {0.0, 1.0}


def test_classes_one_hots_and_a_single_class_mean_the_same():
    model = CONDITIONAL
    results = [
        model.sample(3, c, generator=generator())
        for c in (7, torch.tensor(7), torch.tensor([7, 7, 7]), one_hot(torch.tensor([7, 7, 7]), 10))
    ]
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert not torch.equal(results[0], model.sample(3, 2, generator=generator()))


def test_log_prob_lies_above_the_elbo_and_rises_with_k(model, c):
    x = images()
    elbo_ = seeded(lambda: elbo(model.draw(x, c, k=500)).detach())
    few, many = (model.log_prob(x, c, k=k, generator=generator()) for k in (1, 500))
    assert (many > elbo_ - 0.5).all()
    assert many.sum() > few.sum()


# Bad input ----------------------------------------------------------------------------------------------------------


def test_a_class_for_an_unconditional_model_is_refused():
    model, x = UNCONDITIONAL, images()
    for act in (lambda: model.sample(4, 3), lambda: model.encode(x, 3), lambda: model.draw(x, torch.eye(10)[:4])):
        with pytest.raises(DataError, match="this model is unconditional; leave the class out"):
            act()


def test_a_missing_class_is_refused():
    model, x = CONDITIONAL, images()
    for act in (lambda: model.sample(4), lambda: model.encode(x), lambda: model.log_prob(x), lambda: model.draw(x)):
        with pytest.raises(DataError, match="conditional on 10 classes; pass a class, 0 to 9"):
            act()


@pytest.mark.parametrize(
    ("c", "message"),
    [
        (10, "from 0 to 9, got 10 to 10"),
        (torch.tensor([0, 1, -1, 2]), "from 0 to 9, got -1 to 2"),
        (torch.tensor([1, 2]), r"must have shape \(4, 10\), got \(2, 10\)"),
        (torch.zeros(4, 9), r"must have shape \(4, 10\), got \(4, 9\)"),
        (torch.full((4,), 0.5), r"must be whole numbers, got 0.5; a context must have shape \(N, 10\)"),
    ],
)
def test_classes_that_do_not_fit_are_refused(c, message):
    with pytest.raises(DataError, match=message):
        CONDITIONAL.sample(4, c)


def test_images_that_do_not_fit_are_refused(model, c):
    for x in (torch.rand(4, 784), torch.rand(4, 1, 27, 28), torch.rand(4, 3, 28, 28)):
        with pytest.raises(DataError, match=r"x must have shape \(B, 1, 28, 28\), got \(4, "):
            model.encode(x, c)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((4, *IMAGE), 255), r"takes values in \[0, 1\], got \[255, 255\]; divide 8-bit images by 255"),
        (torch.full((4, *IMAGE), -0.5), r"takes values in \[0, 1\], got \[-0.5, -0.5\]"),
        (torch.full((4, *IMAGE), math.nan), r"takes values in \[0, 1\], got \[nan, nan\]"),
    ],
)
def test_pixels_out_of_range_are_refused(model, c, x, message):
    for act in (model.encode, model.reconstruct, model.log_prob):
        with pytest.raises(DataError, match=message):
            act(x, c)


def test_latents_and_counts_that_do_not_fit_are_refused(model, c):
    with pytest.raises(DataError, match=r"latents must have shape \(N, 15\), got \(4, 14\)"):
        model.decode(torch.zeros(4, 14), c)
    with pytest.raises(ConfigError, match="number of samples, must be at least 1, got 0"):
        model.sample(0, c)
