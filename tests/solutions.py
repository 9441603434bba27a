"""Solutions of the assignment for the tests of `vae check`: eight right ones in different styles, and one with each mistake."""

import re

from vaekit.teaching import handout

RIGHT = handout.source("solution.py.txt").decode()

HEAD = """
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

def hello_vae():
    print("Hello from vae.py!")
"""

# Heads in Sequentials, sizes written out, torch.exp and view, sums and means by hand: as many students write it.
LECTURE = (
    HEAD
    + """
class VAE(nn.Module):
    def __init__(self, input_size, latent_size=15):
        super(VAE, self).__init__()
        H_d = 400
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(input_size, H_d), nn.ReLU(inplace=True),
            nn.Linear(H_d, H_d), nn.ReLU(inplace=True), nn.Linear(H_d, H_d), nn.ReLU(inplace=True))
        self.mu_layer = nn.Sequential(nn.Linear(H_d, latent_size))
        self.logvar_layer = nn.Sequential(nn.Linear(H_d, latent_size))
        self.decoder = nn.Sequential(nn.Linear(latent_size, H_d), nn.ReLU(), nn.Linear(H_d, H_d), nn.ReLU(),
            nn.Linear(H_d, H_d), nn.ReLU(), nn.Linear(H_d, input_size), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, x):
        encoded = self.encoder(x)
        mu, logvar = self.mu_layer(encoded), self.logvar_layer(encoded)
        return self.decoder(reparametrize(mu, logvar)), mu, logvar

class CVAE(nn.Module):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super(CVAE, self).__init__()
        H_d = 400
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(input_size + num_classes, H_d), nn.ReLU(inplace=True),
            nn.Linear(H_d, H_d), nn.ReLU(inplace=True), nn.Linear(H_d, H_d), nn.ReLU(inplace=True))
        self.mu_layer = nn.Sequential(nn.Linear(H_d, latent_size))
        self.logvar_layer = nn.Sequential(nn.Linear(H_d, latent_size))
        self.decoder = nn.Sequential(nn.Linear(latent_size + num_classes, H_d), nn.ReLU(), nn.Linear(H_d, H_d), nn.ReLU(),
            nn.Linear(H_d, H_d), nn.ReLU(), nn.Linear(H_d, input_size), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, x, c):
        N = x.shape[0]
        encoded = self.encoder(torch.cat([x.view(N, -1), c], dim=1))
        mu, logvar = self.mu_layer(encoded), self.logvar_layer(encoded)
        z = torch.cat([reparametrize(mu, logvar), c], dim=1)
        return self.decoder(z), mu, logvar

def reparametrize(mu, logvar):
    std = torch.sqrt(torch.exp(logvar))
    eps = torch.randn(mu.shape, device=mu.device)
    return eps * std + mu

def loss_function(x_hat, x, mu, logvar):
    N = mu.shape[0]
    rec = F.binary_cross_entropy(x_hat, x, reduction='sum')
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return rec / N + kl / N
"""
)

# torch.distributions everywhere, one class for both models, hidden layers made in a loop.
DISTRIBUTIONS = (
    HEAD
    + """
from torch.distributions import Bernoulli, Normal, kl_divergence

def body(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers

class CVAE(nn.Module):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__()
        side = int(math.sqrt(input_size))
        self.encoder = nn.Sequential(nn.Flatten(), *body(input_size + num_classes, 400, 400, 400))
        self.mu_layer, self.logvar_layer = nn.Linear(400, latent_size), nn.Linear(400, latent_size)
        self.decoder = nn.Sequential(*body(latent_size + num_classes, 400, 400, 400),
                                     nn.Linear(400, input_size), nn.Sigmoid(), nn.Unflatten(-1, (1, side, side)))

    def forward(self, x, c):
        h = self.encoder(torch.hstack((torch.flatten(x, start_dim=1), c)))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(torch.hstack((reparametrize(mu, logvar), c))), mu, logvar

class VAE(CVAE):
    def __init__(self, input_size, latent_size=15):
        super().__init__(input_size, 0, latent_size)

    def forward(self, x):
        return super().forward(x, x.new_zeros(len(x), 0))

def reparametrize(mu, logvar):
    return Normal(mu, torch.exp(0.5 * logvar)).rsample()

def loss_function(x_hat, x, mu, logvar):
    rate = kl_divergence(Normal(mu, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)).sum(1)
    distortion = -Bernoulli(x_hat, validate_args=False).log_prob(x).flatten(1).sum(1)
    return (distortion + rate).mean()
"""
)

# Encoder and decoder are methods over single layers; the loss is an average of two sums per image.
METHODS = (
    HEAD
    + """
class VAE(nn.Module):
    extra = 0

    def __init__(self, input_size, latent_size=15):
        super().__init__()
        self.side = math.isqrt(input_size)
        self.e1 = nn.Linear(input_size + self.extra, 400)
        self.e2 = nn.Linear(400, 400)
        self.e3 = nn.Linear(400, 400)
        self.mu_layer = nn.Linear(400, latent_size)
        self.logvar_layer = nn.Linear(400, latent_size)
        self.d1 = nn.Linear(latent_size + self.extra, 400)
        self.d2 = nn.Linear(400, 400)
        self.d3 = nn.Linear(400, 400)
        self.d4 = nn.Linear(400, input_size)

    def encoder(self, x):
        h = F.relu(self.e1(x.reshape(x.size(0), -1)))
        return F.relu(self.e3(F.relu(self.e2(h))))

    def decoder(self, z):
        h = torch.relu(self.d3(torch.relu(self.d2(torch.relu(self.d1(z))))))
        return torch.sigmoid(self.d4(h)).reshape(-1, 1, self.side, self.side)

    def forward(self, x):
        h = self.encoder(x)
        mu = self.mu_layer(h)
        logvar = self.logvar_layer(h)
        z = reparametrize(mu, logvar)
        return [self.decoder(z), mu, logvar]

class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        self.extra = num_classes
        super().__init__(input_size, latent_size)

    def forward(self, x, c):
        h = self.encoder(torch.cat((x.reshape(x.size(0), -1), c.float()), -1))
        mu = self.mu_layer(h)
        logvar = self.logvar_layer(h)
        z = reparametrize(mu, logvar)
        return [self.decoder(torch.cat((z, c.float()), -1)), mu, logvar]

def reparametrize(mu, logvar):
    eps = torch.normal(torch.zeros_like(mu), torch.ones_like(mu))
    return torch.addcmul(mu, eps, logvar.mul(0.5).exp())

def loss_function(x_hat, x, mu, logvar):
    rec = F.binary_cross_entropy(x_hat, x, reduction='none').sum(dim=(1, 2, 3)).mean()
    kl = (0.5 * (mu ** 2 + logvar.exp() - logvar - 1)).sum(dim=1).mean()
    return rec + kl
"""
)

# No autograd function where algebra will do: logarithms written out, means times sizes, lazy layers, an assertion and prints.
ALGEBRA = (
    HEAD
    + """
print("loading", end="")

class Block(nn.Module):
    def __init__(self, size_in, size_out):
        super().__init__()
        self.linear = nn.Linear(size_in, size_out)
    def forward(self, x):
        return self.linear(x).clamp(min=0)

class Net(nn.Module):
    def __init__(self, inp, out, final):
        super().__init__()
        self.blocks = nn.ModuleList([Block(inp, 400), Block(400, 400), Block(400, 400)])
        self.final = final
    def forward(self, x):
        x = x.flatten(start_dim=1)
        for block in self.blocks:
            x = block(x)
        return self.final(x)

class VAE(nn.Module):
    def __init__(self, input_size, latent_size=15):
        super().__init__()
        self.encoder = Net(input_size, 400, nn.Identity())
        self.mu_layer = nn.Linear(400, latent_size)
        self.logvar_layer = nn.Linear(400, latent_size)
        side = round(input_size ** 0.5)
        self.decoder = Net(latent_size, 0, nn.Sequential(nn.Linear(400, input_size), nn.Sigmoid(), nn.Unflatten(1, (1, side, side))))

    def forward(self, x):
        assert x.ndim == 4
        print("shape", x.shape)
        h = self.encoder(x)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        sigma = (logvar / 2).exp()
        z = mu + sigma * torch.randn_like(sigma)  # written out again
        return self.decoder(z), mu, logvar

class CVAE(nn.Module):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__()
        self.net = VAE(input_size, latent_size)
        self.encoder = Net(input_size + num_classes, 400, nn.Identity())
        self.mu_layer, self.logvar_layer = self.net.mu_layer, self.net.logvar_layer
        self.decoder = Net(latent_size + num_classes, 0, self.net.decoder.final)

    def forward(self, x, c):
        xc = torch.zeros(len(x), x[0].numel() + c.shape[1])
        xc[:, :x[0].numel()] = x.flatten(1)
        xc[:, x[0].numel():] = c
        h = self.encoder(xc)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = reparametrize(mu, logvar)
        return self.decoder(torch.cat((z, c), 1)), mu, logvar

def reparametrize(mu, logvar):
    z = torch.randn(*mu.size()).to(mu)
    z = z * torch.exp(logvar) ** 0.5
    return z + mu

def loss_function(x_hat, x, mu, logvar):
    p = x_hat.clamp(1e-7, 1 - 1e-7)
    rec = -torch.mean(x * p.log() + (1 - x) * (1 - p).log()) * x[0].numel()
    kl = -0.5 * torch.mean(torch.sum(1 + logvar - mu * mu - logvar.exp(), dim=1), dim=0)
    return rec + kl
"""
)

# Layers that learn their sizes from what comes; the conditional model is the other one with the class appended.
LAZY = (
    HEAD
    + """
class VAE(nn.Module):
    def __init__(self, input_size, latent_size=15):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(400), nn.ReLU(), nn.LazyLinear(400), nn.ReLU(), nn.LazyLinear(400), nn.ReLU())
        self.mu_layer = nn.LazyLinear(latent_size)
        self.logvar_layer = nn.LazyLinear(latent_size)
        self.decoder = nn.Sequential(nn.LazyLinear(400), nn.ReLU(), nn.LazyLinear(400), nn.ReLU(), nn.LazyLinear(400), nn.ReLU(), nn.LazyLinear(input_size), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
    def forward(self, x):
        h = self.encoder(x); mu = self.mu_layer(h); logvar = self.logvar_layer(h)
        return self.decoder(reparametrize(mu, logvar)), mu, logvar
class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
    def forward(self, x, c):
        h = self.encoder(torch.cat((x.flatten(1), c), 1)); mu = self.mu_layer(h); logvar = self.logvar_layer(h)
        return self.decoder(torch.cat((reparametrize(mu, logvar), c), 1)), mu, logvar
def reparametrize(mu, logvar):
    return mu + torch.exp(0.5*logvar) * torch.randn_like(logvar)
def loss_function(x_hat, x, mu, logvar):
    bce = nn.BCELoss(reduction="sum")(x_hat, x)
    kl = -0.5*torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kl).div(x.size(0))
"""
)

# No nn.Linear: parameters, products and functions; the loss goes from image to image.
FUNCTIONS = (
    HEAD
    + """
def init(a, b):
    k = 1/math.sqrt(a)
    return nn.ParameterList([nn.Parameter(torch.empty(a, b).uniform_(-k, k)), nn.Parameter(torch.empty(b).uniform_(-k, k))])
def mlp(layers, x):
    for W, b in layers:
        x = torch.relu(x @ W + b)
    return x
class VAE(nn.Module):
    def __init__(self, input_size, latent_size=15, extra=0):
        super().__init__()
        self.e = nn.ModuleList([init(input_size + extra, 400), init(400, 400), init(400, 400)])
        self.d = nn.ModuleList([init(latent_size + extra, 400), init(400, 400), init(400, 400)])
        self.mu, self.lv, self.out = init(400, latent_size), init(400, latent_size), init(400, input_size)
    def mu_layer(self, h): return h @ self.mu[0] + self.mu[1]
    def logvar_layer(self, h): return h @ self.lv[0] + self.lv[1]
    def encoder(self, x): return mlp(self.e, x.flatten(1))
    def decoder(self, z): return torch.sigmoid(mlp(self.d, z) @ self.out[0] + self.out[1]).view(-1, 1, 28, 28)
    def forward(self, x):
        h = self.encoder(x); mu, lv = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(reparametrize(mu, lv)), mu, lv
class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15): super().__init__(input_size, latent_size, num_classes)
    def forward(self, x, c):
        h = self.encoder(torch.cat((x.flatten(1), c), 1)); mu, lv = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(torch.cat((reparametrize(mu, lv), c), 1)), mu, lv
def reparametrize(mu, logvar): return torch.randn_like(mu).mul(logvar.div(2).exp()).add(mu)
def loss_function(x_hat, x, mu, logvar):
    return torch.stack([F.binary_cross_entropy(a, b, reduction="sum") + (m*m + l.exp() - l - 1).sum()/2 for a, b, m, l in zip(x_hat, x, mu, logvar)]).mean()
"""
)

# One layer gives both heads, which are methods that take their halves; einsum, in-place functions, means times sizes.
ONE_HEAD = (
    HEAD
    + """
import numpy as np
class Layer(nn.Linear):
    pass
class VAE(nn.Module):
    def __init__(self, input_size: int, latent_size: int = 15) -> None:
        super().__init__()
        self.input_size, self.latent_size, self.hidden_dim = input_size, latent_size, 400
        self.enc = nn.ModuleList(Layer(i, o) for i, o in ((input_size, 400), (400, 400), (400, 400)))
        self.both = Layer(400, 2*latent_size)
        self.dec = nn.ModuleList(Layer(i, o) for i, o in ((latent_size, 400), (400, 400), (400, 400), (400, input_size)))
    def encoder(self, x):
        h = x.reshape(len(x), -1)
        for l in self.enc: h = F.relu_(l(h))
        return h
    def mu_layer(self, h): return self.both(h)[:, :self.latent_size]
    def logvar_layer(self, h): return self.both(h)[:, self.latent_size:]
    def decoder(self, z):
        for l in self.dec[:-1]: z = F.relu_(l(z))
        return F.sigmoid(self.dec[-1](z)).unflatten(1, (1, 28, 28))
    def forward(self, x):
        mu, logvar = self.both(self.encoder(x)).chunk(2, dim=1)
        return self.decoder(reparametrize(mu, logvar)), mu, logvar
class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        nn.Module.__init__(self)
        self.input_size, self.latent_size, self.hidden_dim = input_size, latent_size, 400
        self.enc = nn.ModuleList(Layer(i, o) for i, o in ((input_size+num_classes, 400), (400, 400), (400, 400)))
        self.both = Layer(400, 2*latent_size)
        self.dec = nn.ModuleList(Layer(i, o) for i, o in ((latent_size+num_classes, 400), (400, 400), (400, 400), (400, input_size)))
    def forward(self, x, c):
        mu, logvar = self.both(self.encoder(torch.column_stack((x.view(len(x), -1), c)))).chunk(2, dim=1)
        return self.decoder(torch.column_stack((reparametrize(mu, logvar), c))), mu, logvar
def reparametrize(mu, logvar):
    sigma = logvar.exp().sqrt()
    eps = torch.empty_like(mu).normal_()
    return mu + torch.einsum("nz,nz->nz", sigma, eps)
def loss_function(x_hat, x, mu, logvar):
    total = 0
    total += F.binary_cross_entropy(x_hat, x, reduction="mean") * np.prod(x.shape[1:])
    total -= 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(axis=1).mean()
    return total
"""
)

STYLES = {
    "ours": RIGHT,
    "lecture": LECTURE,
    "distributions": DISTRIBUTIONS,
    "methods": METHODS,
    "algebra": ALGEBRA,
    "lazy": LAZY,
    "functions": FUNCTIONS,
    "one head": ONE_HEAD,
}


def change(*pairs: tuple[str, str]) -> str:
    """The right solution with some of its text replaced, everywhere where it stands."""
    text = RIGHT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def change_in(name: str, *pairs: tuple[str, str]) -> str:
    """The right solution with some text replaced in one of its classes."""
    start = RIGHT.index(f"class {name}(")
    end = re.compile(r"^(class|def) ", re.MULTILINE).search(RIGHT, start + 5).start()
    body = RIGHT[start:end]
    for old, new in pairs:
        assert old in body, old
        body = body.replace(old, new)
    return RIGHT[:start] + body + RIGHT[end:]


DRAW = "z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)"
BCE = 'F.binary_cross_entropy(x_hat, x, reduction="sum")'
KL = "kl = -0.5 * torch.sum(1 + logvar - mu**2 - torch.exp(logvar))"
LOSS = "loss = (reconstruction + kl) / len(x)"
SIGMOID = "            nn.Sigmoid(),\n"
BOTH = "h = self.encoder(torch.cat((x.flatten(1), c), dim=-1))"
LATENTS = "x_hat = self.decoder(torch.cat((z, c), dim=-1))"

# Name: (solution, sections that lose points and how many, what the diagnosis says).
MISTAKES = {
    "arguments swapped": (change((BCE, 'F.binary_cross_entropy(x, x_hat, reduction="sum")')), {"loss_function": 1}, r"swapped.*8\.0731"),
    "parameters swapped": (change(("def loss_function(x_hat: Tensor, x: Tensor", "def loss_function(x: Tensor, x_hat: Tensor")), {"loss_function": 1}, r"swapped.*8\.0731"),
    "variance as sigma": (change((DRAW, "z = mu + torch.exp(logvar) * torch.randn_like(mu)")), {"reparametrize": 1}, r"exp\(logvar\) is the variance"),
    "log-variance as sigma": (change((DRAW, "z = mu + logvar * torch.randn_like(mu)")), {"reparametrize": 1}, "logvar itself is used as σ"),
    "root of log-variance": (change((DRAW, "z = mu + torch.sqrt(logvar) * torch.randn_like(mu)")), {"reparametrize": 1}, "NaN"),
    "sigma inverted": (change((DRAW, "z = mu + torch.exp(-logvar / 2) * torch.randn_like(mu)")), {"reparametrize": 1}, "wrong sign in its exponent"),
    "uniform noise": (change((DRAW, "z = mu + torch.exp(logvar / 2) * torch.rand_like(mu)")), {"reparametrize": 1}, "ε is uniform"),
    "no noise": (change((DRAW, "z = mu + torch.exp(logvar / 2)")), {"reparametrize": 1}, "ε is the constant 1"),
    "one noise for the batch": (change((DRAW, "z = mu + torch.exp(logvar / 2) * torch.randn(mu.shape[1])")), {"reparametrize": 1}, "whole batch shares one ε"),
    "one noise for a row": (change((DRAW, "z = mu + torch.exp(logvar / 2) * torch.randn(len(mu), 1)")), {"reparametrize": 1}, "latents of a row share one ε"),
    "places changed": (change((DRAW, "z = torch.exp(logvar / 2) + mu * torch.randn_like(mu)")), {"reparametrize": 1}, "have changed places"),
    "torch.normal": (change((DRAW, "z = torch.normal(mu, torch.exp(logvar / 2))")), {"reparametrize": 1}, r"No gradient reaches mu or logvar.*torch\.normal"),
    "sample": (change((DRAW, "z = torch.distributions.Normal(mu, torch.exp(logvar / 2)).sample()")), {"reparametrize": 1}, r"No gradient reaches mu or logvar"),
    "sigma detached": (change((DRAW, "z = mu + torch.exp(logvar.detach() / 2) * torch.randn_like(mu)")), {"reparametrize": 1}, r"No gradient reaches logvar,"),
    "BCE averaged": (change((BCE, "F.binary_cross_entropy(x_hat, x)"), (LOSS, "loss = reconstruction + kl / len(x)")), {"loss_function": 1}, "weigh 784 times too much"),
    "BCE averaged, batch twice": (change((BCE, "F.binary_cross_entropy(x_hat, x) * len(x)"), (LOSS, "loss = reconstruction + kl / len(x)")), {"loss_function": 1}, "weigh 784 times too much"),
    "BCE averaged and divided": (change((BCE, "F.binary_cross_entropy(x_hat, x)")), {"loss_function": 1}, "times what it should be"),
    "with logits": (change((BCE, 'F.binary_cross_entropy_with_logits(x_hat, x, reduction="sum")')), {"loss_function": 1}, "without _with_logits"),
    "squared error": (change((BCE, 'F.mse_loss(x_hat, x, reduction="sum")')), {"loss_function": 1}, "squared error"),
    "not divided": (change((LOSS, "loss = reconstruction + kl")), {"loss_function": 1}, "not divided by the number of images.*cannot see it"),
    "batch size written out": (change((LOSS, "loss = (reconstruction + kl) / 128")), {"loss_function": 2}, r"0\.02344 times"),
    "one loss per image": (change((LOSS, "loss = (reconstruction + kl).expand(len(x)) / len(x)")), {"loss_function": 1}, "one number"),
    "KL twice averaged": (change((KL, KL + " / len(x)")), {"loss_function": 1}, "averaged over the batch twice.*cannot see it"),
    "KL not averaged": (change((LOSS, "loss = reconstruction / len(x) + kl")), {"loss_function": 1}, "summed over the batch"),
    "KL of wrong sign": (change((KL, KL.replace("-0.5", "0.5"))), {"loss_function": 1}, "wrong sign"),
    "KL subtracted": (change((LOSS, "loss = (reconstruction - kl) / len(x)")), {"loss_function": 1}, "wrong sign"),
    "KL averaged over latents": (change((KL, KL.replace(".sum", ".mean") + " * len(x)")), {"loss_function": 1}, "averaged over the latents"),
    "KL without half": (change((KL, KL.replace("-0.5 *", "-"))), {"loss_function": 1}, "factor ½"),
    "KL without one": (change((KL, KL.replace("1 + ", ""))), {"loss_function": 1}, "is the 1 missing"),
    "KL of log sigma": (change((KL, KL.replace("+ logvar", "+ 2 * logvar").replace("exp(logvar)", "exp(2 * logvar)"))), {"loss_function": 1}, "treated as log σ"),
    "no KL": (change((LOSS, "loss = reconstruction / len(x)")), {"loss_function": 1}, "no KL term"),
    "item": (change((LOSS, LOSS + "\n    loss = loss.item()")), {"loss_function": 2}, r"leave out \.item\(\)"),
    "loss detached": (change((LOSS, LOSS + "\n    loss = loss.detach()")), {"loss_function": 2}, r"No gradient of the loss reaches x_hat"),
    "no sigmoid": (change_in("VAE", (SIGMOID, "")), {"VAE decoder": 1}, r"nn\.Sigmoid\(\) is missing"),
    "no sigmoid, conditional": (change_in("CVAE", (SIGMOID, "")), {"CVAE decoder": 1}, r"nn\.Sigmoid\(\) is missing"),
    "tanh": (change_in("VAE", ("nn.Sigmoid()", "nn.Tanh()")), {"VAE decoder": 1}, "range of Tanh"),
    "softmax": (change_in("VAE", ("nn.Sigmoid()", "nn.Softmax(1)")), {"VAE decoder": 1}, "softmax"),
    "no unflatten": (change_in("VAE", ("            nn.Unflatten(1, (1, 28, 28)),\n", "")), {"VAE decoder": 1}, "nn.Unflatten"),
    "no flatten": (change_in("VAE", ("            nn.Flatten(),\n", "")), {"VAE encoder": 1, "VAE forward": 2}, r"nn\.Flatten\(\) belongs"),
    "no nonlinearity": (change_in("VAE", ("            nn.Linear(hidden, hidden),\n            nn.ReLU(),\n", "            nn.Linear(hidden, hidden),\n"), ("nn.Linear(input_size, hidden),\n            nn.ReLU()", "nn.Linear(input_size, hidden)"), ("nn.Linear(latent_size, hidden),\n            nn.ReLU()", "nn.Linear(latent_size, hidden)")), {"VAE encoder": 1, "VAE decoder": 1}, "one linear map"),
    "latents written out": (change_in("VAE", ("nn.Linear(hidden, latent_size)", "nn.Linear(hidden, 15)")), {"VAE encoder": 1}, "latent_size=7"),
    "one layer less": (change_in("VAE", ("            nn.Linear(hidden, hidden),\n            nn.ReLU(),\n            nn.Linear(hidden, hidden),\n            nn.ReLU(),\n        )", "            nn.Linear(hidden, hidden),\n            nn.ReLU(),\n        )")), {"VAE encoder": 1}, "2 linear layers"),
    "heads shared": (change_in("VAE", ("self.logvar_layer = nn.Linear(hidden, latent_size)", "self.logvar_layer = self.mu_layer")), {"VAE encoder": 1}, "same layer"),
    "decodes mu": (change_in("VAE", ("self.decoder(z)", "self.decoder(mu)")), {"VAE forward": 1}, "nothing is drawn"),
    "order of outputs": (change_in("VAE", ("return x_hat, mu, logvar", "return mu, logvar, x_hat")), {"VAE forward": 2}, "the order is x_hat, mu, logvar"),
    "logvar before mu": (change_in("VAE", ("return x_hat, mu, logvar", "return x_hat, logvar, mu")), {"VAE forward": 1}, "logvar before mu"),
    "two outputs": (change_in("VAE", ("return x_hat, mu, logvar", "return x_hat, mu")), {"VAE forward": 2}, "three things"),
    "sigma to reparametrize": (change_in("VAE", ("reparametrize(mu, logvar)", "reparametrize(mu, torch.exp(logvar / 2))")), {"VAE forward": 1}, "in forward instead of 0 and 1"),
    "wrong side of the image": (change((BOTH, BOTH.replace("x.flatten(1), c", "c, x.flatten(1)"))), {"CVAE forward": 1}, "on the wrong side: it comes after the image"),
    "wrong side of the latents": (change((LATENTS, LATENTS.replace("z, c", "c, z"))), {"CVAE forward": 1}, "on the wrong side: it comes after the latents"),
    "class as one integer": (change((BOTH, BOTH.replace(", c)", ", c.argmax(1, keepdim=True))")), (LATENTS, LATENTS.replace(", c)", ", c.argmax(1, keepdim=True))")), ("input_size + num_classes", "input_size + 1"), ("latent_size + num_classes", "latent_size + 1")), {"CVAE encoder": 1, "CVAE decoder": 1, "CVAE forward": 2}, "one integer"),
    "integers": (change((BOTH, BOTH.replace("x.flatten(1), c)", "x.flatten(1).long(), c.long())"))), {"CVAE forward": 2}, "Integers reach a layer"),
    "class left out": (change((BOTH, "h = self.encoder(x.flatten(1))")), {"CVAE forward": 2}, "class is not appended"),
    "class not decoded": (change((LATENTS, "x_hat = self.decoder(z)"), ("latent_size + num_classes", "latent_size")), {"CVAE decoder": 1, "CVAE forward": 1}, "not told the class"),
}  # fmt: skip

MISTAKES |= {
    "BCELoss swapped, lazy": (LAZY.replace("(x_hat, x)\n    kl", "(x, x_hat)\n    kl"), {"loss_function": 1}, r"swapped.*8\.0731"),
    "torch.normal, lazy": (LAZY.replace("mu + torch.exp(0.5*logvar) * torch.randn_like(logvar)", "torch.normal(mean=mu, std=torch.exp(0.5*logvar))"), {"reparametrize": 1}, "No gradient reaches mu or logvar"),
    "KL twice averaged, one head": (ONE_HEAD.replace(".sum(axis=1).mean()", ".sum(axis=1).mean() / len(x)"), {"loss_function": 1}, "averaged over the batch twice"),
    "logvar detached, one head": (ONE_HEAD.replace("return self.decoder(reparametrize(mu, logvar)), mu, logvar", "return self.decoder(reparametrize(mu, logvar.detach())), mu, logvar", 1), {"VAE forward": 1}, "No gradient reaches logvar_layer,"),
    "class on the left, functions": (FUNCTIONS.replace("(x.flatten(1), c)", "(c, x.flatten(1))").replace("(reparametrize(mu, lv), c)", "(c, reparametrize(mu, lv))"), {"CVAE forward": 2}, "comes after the image"),
}  # fmt: skip

ACCEPTED = {
    "flatten in the conditional encoder": (change(("nn.Linear(input_size + num_classes, hidden)", "nn.Flatten(),\n            nn.Linear(input_size + num_classes, hidden)")), ""),
    "hidden width": (change(("self.hidden_dim = 400", "self.hidden_dim = 256")), "Accepted: hidden layers of 256 units"),
}  # fmt: skip
