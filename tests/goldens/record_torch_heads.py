"""Records attention heads built of plain PyTorch layers, with their weights.

`python tests/goldens/record_torch_heads.py` writes `torch_heads.npz` beside itself:
the input, the weights, the output, and the gradients of its sum with given weights.
"""

import pathlib

import numpy as np
import torch
from torch import nn

CHANNELS, HEADS, OUT = 8, 2, 6


class Map(nn.Module):
    """Attention of a probe, then a residual MLP."""

    def __init__(self):
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, CHANNELS))
        self.attention = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(CHANNELS, eps=1e-6)
        self.hidden = nn.Linear(CHANNELS, 4 * CHANNELS)
        self.out = nn.Linear(4 * CHANNELS, CHANNELS)

    def forward(self, x):
        probe = self.probe.expand(len(x), -1, -1)
        y = self.attention(probe, x, x, need_weights=False)[0][:, 0]
        hidden = nn.functional.gelu(self.hidden(self.norm(y)), approximate="tanh")
        return y + self.out(hidden)


class Clip(nn.Module):
    """Attention from the mean of an image `(N, H, W, C)`."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(7, CHANNELS) / CHANNELS**0.5)
        self.query = nn.Linear(CHANNELS, CHANNELS)
        self.key = nn.Linear(CHANNELS, CHANNELS)
        self.value = nn.Linear(CHANNELS, CHANNELS)
        self.out = nn.Linear(CHANNELS, OUT)

    def forward(self, x):
        x = x.flatten(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.position
        heads = [
            t.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for t in (self.query(x[:, :1]), self.key(x), self.value(x))
        ]
        y = nn.functional.scaled_dot_product_attention(*heads)
        return self.out(y.transpose(1, 2).flatten(2)[:, 0])


def record():
    torch.manual_seed(0)
    found = {}
    for name, model, shape in (
        ("map", Map(), (2, 5, CHANNELS)),
        ("clip", Clip(), (2, 2, 3, CHANNELS)),
    ):
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
        x = torch.randn(shape, requires_grad=True)
        y = model(x)
        g = torch.randn(y.shape)
        (y * g).sum().backward()
        arrays = {"x": x, "y": y, "g": g, "dx": x.grad}
        for key, value in model.named_parameters():
            arrays[f"p:{key}"], arrays[f"d:{key}"] = value, value.grad
        found |= {f"{name}/{k}": v.detach().numpy() for k, v in arrays.items()}
    return found


if __name__ == "__main__":
    path = pathlib.Path(__file__).with_name("torch_heads.npz")
    np.savez_compressed(path, **record())
    print(path, torch.__version__)
