"""Networks: tensor → tensor, no probability.

Every network maps `(x, c)`, with x of shape (..., B, *in_shape) and an optional context c of shape (B, context_size)
that broadcasts over the leading dimensions of x, to a tensor of shape (..., B, *out_shape). An encoder's output is its
last hidden layer, of shape (features,), and `maps` gives its feature maps too; a decoder's last layer has no
activation, and `start_output` sets its start.

| file | what |
|---|---|
| `base` | the base of all networks, and the contracts `Encoder` and `Decoder` |
| `mlp` | fully connected |
| `conv`, `resnet`, `stages` | convolutional, residual, and the parts of both |
| `tabular` | the encoder of tables |
| `unregistered` | a reference to a module that another module owns |
| `init`, `principal` | initialization by name; a start from principal components |
"""

from .base import Activation, Decoder, Encoder, FirstLevel, Network, with_context
from .conv import ConvDecoder, ConvEncoder
from .init import Scheme, initialize
from .mlp import MLP
from .principal import principal_start
from .resnet import ResNetDecoder, ResNetEncoder
from .tabular import ColumnView, TableEncoder

__all__ = [
    "MLP",
    "Activation",
    "ColumnView",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Encoder",
    "FirstLevel",
    "Network",
    "ResNetDecoder",
    "ResNetEncoder",
    "Scheme",
    "TableEncoder",
    "initialize",
    "principal_start",
    "with_context",
]
