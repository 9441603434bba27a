"""The page's interpreter gives what torch gives: every preset's decoder and encoder, run by Node."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vaekit
from vaekit.distributions import Curved, PoincareBall, UnitSphere
from vaekit.errors import ConfigError
from vaekit.explorer import graph, page
from vaekit.model import LatentVariableModel
from vaekit.model.exportable import Encoding

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node to run the page's JavaScript: apt-get install nodejs")
ASSETS = Path(page.__file__).parent / "assets"
PRESETS = [name for name in vaekit.config.preset_names() if vaekit.config.read(name).encoder.name != "table"]
IMAGE = (1, 28, 28)

RUN = """
import { readFileSync } from "node:fs";
const { runProgram, readWeights } = await import(process.argv[1]);
const job = JSON.parse(readFileSync(0, "utf8"));
const weights = readWeights(job.table, new Uint8Array(Buffer.from(job.data, "base64")));
const results = job.rows.map((row) => runProgram(job.program, weights, row.map((v) => Float32Array.from(v))));
console.log(JSON.stringify(results.map((outputs) => outputs.map((values) => [...values]))));
"""


def node(script: str, *arguments: str, given: str = "") -> str:
    assert NODE is not None
    command = [NODE, "--input-type=module", "--eval", script, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def run(program: graph.Program, weights: graph.Weights, *inputs: Tensor | None) -> list[Tensor]:
    """All outputs, each (N, numbers)."""
    rows = [
        [part.flatten().tolist() for part in row] for row in zip(*(i for i in inputs if i is not None), strict=True)
    ]
    data = base64.b64encode(weights.data).decode()
    job = {"program": program, "table": weights.table, "data": data, "rows": rows}
    found = json.loads(node(RUN, (ASSETS / "interpreter.mjs").as_uri(), given=json.dumps(job)))
    return [torch.tensor(output) for output in zip(*found, strict=True)]


def trained(name: str, shape: tuple[int, ...] = IMAGE, **sections: object) -> LatentVariableModel:
    """A model with weights, and statistics of its norms, that are not those of the start."""
    torch.manual_seed(0)
    model = vaekit.build(name, event_shape=shape, num_classes=4, x=torch.rand(64, *shape), **sections)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
    return model.eval()


def given(model: LatentVariableModel, n: int) -> tuple[Tensor, Tensor | None]:
    z = torch.randn(n, model.latent_size)
    return z, torch.eye(model.context_size)[torch.arange(n) % 4] if model.context_size else None


@torch.no_grad()
def assert_decodes(model: LatentVariableModel, *, n: int) -> None:
    """The page decodes n latents as torch does: to 1e-5 in float32 and to 2e-3 with weights in float16."""
    weights, (z, c) = graph.Weights(half=False), given(model, n)
    program = graph.decoding(model, weights)
    wanted = model.decode(z.unflatten(1, model.latent_shape), c).flatten(1)
    for kept, limit in ((weights, 1e-5), (halved(weights), 2e-3)):
        (found,) = run(program, kept, z, c)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= limit * wanted.abs().max().clamp(min=1)


def halved(weights: graph.Weights) -> graph.Weights:
    """The same constants, under the same numbers, as the page has them by default."""
    kept = graph.Weights()
    for entry in weights.table:
        values = torch.frombuffer(weights.data, dtype=torch.float32, count=entry["size"], offset=entry["at"])
        kept.add(values.reshape(entry["shape"]))
    assert len(kept.table) == len(weights.table)
    return kept


@needs_node
@pytest.mark.parametrize("preset", PRESETS)
def test_the_page_decodes_100_latents_as_torch_does(preset: str) -> None:
    assert_decodes(trained(preset), n=100)


PARTS = {
    **{f"likelihood {name}": {"likelihood": {"name": name}} for name in ("laplace", "beta-binomial", "poisson", "negative-binomial", "categorical")},
    **{f"activation {name}": {"decoder": {"hidden": [16], "activation": name}} for name in ("leaky-relu", "elu", "silu", "gelu", "softplus")},
    "layer norm": {"decoder": {"hidden": [16], "norm": "layer"}},
    "residual": {"decoder": {"name": "resnet"}},
    "convolutions of odd sizes": {"decoder": {"name": "conv", "norm": "batch"}, "model": {"condition": "class"}},
    "scale and shift": {"decoder": {"name": "resnet"}, "model": {"condition": "class"}},
}  # fmt: skip


@needs_node
@pytest.mark.parametrize("part", PARTS)
def test_the_page_decodes_other_parts_too(part: str) -> None:
    small = (3, 11, 14) if "odd" in part else (1, 8, 8)
    assert_decodes(trained("standard-vae", small, **PARTS[part]), n=10)


@needs_node
@pytest.mark.parametrize("preset", ["vae", "cvae", "conv-cvae", "iwae-2l", "iaf-vae", "vamp"])
@torch.no_grad()
def test_the_page_encodes_and_scores_as_torch_does(preset: str) -> None:
    model, weights = trained(preset), graph.Weights(half=False)
    x = torch.rand(10, *IMAGE)
    c = given(model, 10)[1]
    found = run(graph.encoding(model, weights, IMAGE), weights, x, c)
    wanted = Encoding(model)(x, c)
    assert len(found) == len(wanted) == 3
    for some, other in zip(found, wanted, strict=True):
        assert torch.allclose(some, other.reshape(some.shape), rtol=1e-4, atol=1e-4)


@needs_node
def test_the_parity_is_no_accident() -> None:
    model, weights = trained("vae", (1, 8, 8)), graph.Weights(half=False)
    program = graph.decoding(model, weights)
    z = given(model, 2)[0]
    weights.data[: len(weights.data) // 2] = bytes(len(weights.data) // 2)
    (found,) = run(program, weights, z)
    assert (found - model.decode(z).flatten(1)).abs().max() > 1e-2


@needs_node
def test_both_sides_know_the_same_operators() -> None:
    script = "const { OPERATORS } = await import(process.argv[1]); console.log(Object.keys(OPERATORS).join());"
    known = node(script, (ASSETS / "interpreter.mjs").as_uri()).strip().split(",")
    assert set(known) == graph.KNOWN


@needs_node
def test_float16_is_read_as_numpy_writes_it() -> None:
    values = torch.cat((torch.tensor([0.0, -0.0, 6e-8, 6.1e-5, 65504.0, 1 / 3]), torch.randn(200)))
    weights = graph.Weights()
    weights.add(values)
    weights.table[0]["size"] = len(values)
    script = "const m = await import(process.argv[1]); const j = JSON.parse(process.argv[2]);"
    script += "console.log(JSON.stringify([...m.readWeights(j.table, new Uint8Array(Buffer.from(j.data, 'base64')))[0].data]));"
    job = json.dumps({"table": weights.table, "data": base64.b64encode(weights.data).decode()})
    found = torch.tensor(json.loads(node(script, (ASSETS / "interpreter.mjs").as_uri(), job)))
    assert weights.table[0]["kind"] == "f4"  # 65504 is more than is trusted to float16
    weights = graph.Weights()
    weights.add(values.clamp(max=100))
    job = json.dumps({"table": weights.table, "data": base64.b64encode(weights.data).decode()})
    assert weights.table[0]["kind"] == "f2"
    found = torch.tensor(json.loads(node(script, (ASSETS / "interpreter.mjs").as_uri(), job)))
    kept = torch.from_numpy(graph.rounded(values.clamp(max=100).numpy()))  # one bit less than float16 has
    assert torch.equal(found, kept.half().float())
    assert ((kept - values.clamp(max=100)).abs() <= 2.0**-10 * values.abs()).all()


def test_an_operator_that_the_page_lacks_is_named() -> None:
    class Sorted(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.sort().values

    with pytest.raises(ConfigError, match="does not know torch's operator sort"):
        graph.lowered(Sorted(), (torch.zeros(1, 3),), graph.Weights())


def test_what_torch_cannot_export_is_an_error_too() -> None:
    class Looks(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z if z.sum().item() > 0 else -z

    with pytest.raises(ConfigError, match="cannot export"):
        graph.lowered(Looks(), (torch.zeros(1, 3),), graph.Weights())


@needs_node
def test_the_script_of_the_page_is_whole(tmp_path: Path) -> None:
    code = page.script()
    assert "import " not in code.replace("important", "") and "\nexport " not in code
    (tmp_path / "page.mjs").write_text(code)
    assert NODE is not None
    subprocess.run([NODE, "--check", str(tmp_path / "page.mjs")], check=True)


WAY = """
const { inSpace, wayBetween } = await import(process.argv[1]);
const { space, a, b } = JSON.parse(process.argv[2]);
console.log(JSON.stringify([wayBetween(a, b, 5, "straight", space), inSpace(space, [3, 4, 0])]));
"""


@needs_node
@pytest.mark.parametrize(("space", "name"), [(UnitSphere(), "sphere"), (PoincareBall(), "ball")])
def test_the_page_walks_the_shortest_way_and_stays_in_the_space(space: Curved, name: str) -> None:
    a, b = torch.nn.functional.normalize(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), dim=-1).double()
    a, b = (a, b) if name == "sphere" else (0.9 * a, 0.4 * b)
    job = json.dumps({"space": name, "a": a.tolist(), "b": b.tolist()})
    way, inside = map(torch.tensor, json.loads(node(WAY, (ASSETS / "geometry.mjs").as_uri(), job)))
    times = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    assert torch.allclose(way.double(), space.between(a, b, times), atol=1e-6)
    assert space.check(inside) and torch.allclose(inside, inside.norm() * torch.tensor([0.6, 0.8, 0.0]))
    assert not torch.allclose(way.double(), torch.lerp(a, b, times), atol=1e-2)
