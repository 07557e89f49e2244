"""Record what blocks built of plain `torch.nn` layers compute, on the CPU.

    python tests/goldens/record_torch_blocks.py

writes `torch_blocks.npz` beside this file. The blocks are written from the published
layer lists, with the published names, and hold random weights. For each case, with
`x` and the cotangent `g` channels first:

  state/<name>   the state dict before anything ran
  y_eval, dx_eval        output, and gradient of sum(g y), in eval mode
  y_train, dx_train      the same in train mode, its first step
  grad/<name>    gradients of the parameters in that step
  after/<name>   the running averages after steps with x, 2 x + 1 and -x
  y_after        output in eval mode after these
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FILE = Path(__file__).parent / "torch_blocks.npz"


class Conv(nn.Module):
    """Convolution, batch norm, activation."""

    def __init__(self, a, b, k=1, act=nn.SiLU, s=1, d=1, g=1, eps=1e-3, momentum=0.03):
        super().__init__()
        pad = (d * (k - 1) + 1) // 2
        self.conv = nn.Conv2d(a, b, k, s, pad, d, g, bias=False)
        self.bn = nn.BatchNorm2d(b, eps, momentum)
        self.act = act()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class SPP(nn.Module):
    def __init__(self, a, b, sizes):
        super().__init__()
        self.cv1, self.cv2 = Conv(a, a // 2), Conv(a // 2 * (len(sizes) + 1), b)
        self.sizes = sizes

    def forward(self, x):
        x = self.cv1(x)
        pools = [F.max_pool2d(x, k, 1, k // 2) for k in self.sizes]
        return self.cv2(torch.cat([x, *pools], 1))


def chain(x, k, n):
    found = [x]
    for _ in range(n):
        found.append(F.max_pool2d(found[-1], k, 1, k // 2))
    return torch.cat(found, 1)


class SPPF(nn.Module):
    def __init__(self, a, b, k, n, act=nn.SiLU, first=None, shortcut=False):
        super().__init__()
        self.cv1 = Conv(a, a // 2, act=first or act)
        self.cv2 = Conv(a // 2 * (n + 1), b, act=act)
        self.k, self.n, self.shortcut = k, n, shortcut

    def forward(self, x):
        y = self.cv2(chain(self.cv1(x), self.k, self.n))
        return x + y if self.shortcut else y


class CrossStage(nn.Module):
    def __init__(self, a, b, h, pools, scales, bypass_first=False):
        super().__init__()
        self.cv1, self.cv2 = Conv(a, h), Conv(a, h)
        self.cv3, self.cv4 = Conv(h, h, 3), Conv(h, h)
        self.cv5, self.cv6 = Conv(scales * h, h), Conv(h, h, 3)
        self.cv7 = Conv(2 * h, b)
        self.pools, self.bypass_first = pools, bypass_first

    def forward(self, x):
        y = self.cv6(self.cv5(self.pools(self.cv4(self.cv3(self.cv1(x))))))
        paths = [y, self.cv2(x)]
        return self.cv7(torch.cat(paths[::-1] if self.bypass_first else paths, 1))


def separate(x):
    return torch.cat([x, *(F.max_pool2d(x, k, 1, k // 2) for k in (3, 5))], 1)


def conv_bn(a, b, k=1, d=1, relu=True, before=None):
    k = (k, k) if isinstance(k, int) else k
    pad = tuple(d * (n - 1) // 2 for n in k)
    layers = [nn.Conv2d(a, b, k, 1, pad, d, bias=False), nn.BatchNorm2d(b)]
    layers += [nn.ReLU()] if relu else []
    return nn.Sequential(*([before] if before else []), *layers)


class ASPP(nn.Module):
    def __init__(self, a, b, rates):
        super().__init__()
        image = conv_bn(a, b, before=nn.AdaptiveAvgPool2d(1))
        wide = [conv_bn(a, b, 3, d) for d in rates]
        self.convs = nn.ModuleList([conv_bn(a, b), *wide, image])
        self.project = conv_bn((len(rates) + 2) * b, b)

    def forward(self, x):
        *found, image = [conv(x) for conv in self.convs]
        size = x.shape[-2:]
        image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        return self.project(torch.cat([*found, image], 1))


class SumASPP(nn.Module):
    def __init__(self, a, b, rates):
        super().__init__()
        for i, d in enumerate(rates):
            setattr(self, f"c{i}", nn.Conv2d(a, b, 3, 1, d, d))

    def forward(self, x):
        return sum(conv(x) for conv in self.children())


class PPM(nn.Module):
    def __init__(self, a, bins, align_corners=True):
        super().__init__()
        self.features = nn.ModuleList(
            conv_bn(a, a // len(bins), before=nn.AdaptiveAvgPool2d(n)) for n in bins
        )
        self.align_corners = align_corners

    def forward(self, x):
        resize = {"mode": "bilinear", "align_corners": self.align_corners}
        maps = [F.interpolate(f(x), x.shape[-2:], **resize) for f in self.features]
        return torch.cat([x, *maps], 1)


class SPBlock(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.conv1 = nn.Conv2d(a, a, (3, 1), padding=(1, 0), bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.conv2 = nn.Conv2d(a, a, (1, 3), padding=(0, 1), bias=False)
        self.bn2 = nn.BatchNorm2d(a)
        self.conv3 = nn.Conv2d(a, a, 1)

    def forward(self, x):
        rows = self.bn1(self.conv1(x.mean(3, keepdim=True)))
        columns = self.bn2(self.conv2(x.mean(2, keepdim=True)))
        return x * torch.sigmoid(self.conv3(F.relu(rows + columns)))


class StripPooling(nn.Module):
    def __init__(self, a, sizes, align_corners):
        super().__init__()
        m = a // 4
        self.conv1_1, self.conv1_2 = conv_bn(a, m), conv_bn(a, m)
        self.conv2_0 = conv_bn(m, m, 3, relu=False)
        self.conv2_1 = conv_bn(m, m, 3, relu=False)
        self.conv2_2 = conv_bn(m, m, 3, relu=False)
        self.conv2_3 = conv_bn(m, m, (1, 3), relu=False)
        self.conv2_4 = conv_bn(m, m, (3, 1), relu=False)
        self.conv2_5, self.conv2_6 = conv_bn(m, m, 3), conv_bn(m, m, 3)
        self.conv3 = conv_bn(2 * m, a, relu=False)
        self.sizes, self.align_corners = sizes, align_corners

    def forward(self, x):
        def up(y):
            resize = {"mode": "bilinear", "align_corners": self.align_corners}
            return F.interpolate(y, x.shape[-2:], **resize)

        near, far = self.conv1_1(x), self.conv1_2(x)
        one, two = (F.adaptive_avg_pool2d(near, n) for n in self.sizes)
        near = self.conv2_0(near) + up(self.conv2_1(one)) + up(self.conv2_2(two))
        columns = self.conv2_3(far.mean(2, keepdim=True))
        rows = self.conv2_4(far.mean(3, keepdim=True))
        far = self.conv2_6(F.relu(up(columns) + up(rows)))
        return F.relu(x + self.conv3(torch.cat([self.conv2_5(F.relu(near)), far], 1)))


# By case: how it is built, from 8 channels.
CASES = {
    "ConvNormAct": lambda: Conv(
        8, 6, 3, nn.ReLU, s=2, d=2, g=2, eps=1e-5, momentum=0.1
    ),
    "SPP": lambda: SPP(8, 6, (3, 5)),
    "SPPF": lambda: SPPF(8, 6, 3, 2),
    "SPPF/later": lambda: SPPF(8, 8, 5, 1, first=nn.Identity, shortcut=True),
    "SimSPPF": lambda: SPPF(8, 4, 3, 2, nn.ReLU),
    "SPPCSPC": lambda: CrossStage(8, 4, 4, separate, 3),
    "SPPFCSPC": lambda: CrossStage(8, 4, 4, lambda x: chain(x, 3, 2), 3),
    "CSPSPPF": lambda: CrossStage(8, 8, 4, lambda x: chain(x, 3, 2), 3, True),
    "ASPP": lambda: ASPP(8, 4, (1, 2)),
    "ASPP/sum": lambda: SumASPP(8, 3, (1, 2, 3)),
    "PPM": lambda: PPM(8, (1, 2, 3, 6)),
    "PPM/half": lambda: PPM(8, (1, 3), align_corners=False),
    "SPBlock": lambda: SPBlock(8),
    "StripPooling": lambda: StripPooling(8, (4, 3), False),
    "StripPooling/corners": lambda: StripPooling(8, (4, 1), True),
}


def numpy(tensor):
    return tensor.detach().numpy().copy()


def run(case, seed=0):
    """What is recorded of a case."""
    torch.manual_seed(seed)
    block = CASES[case]()
    with torch.no_grad():  # away from where they start
        for name, value in block.state_dict().items():
            if name.endswith(("running_var", "bn.weight", "1.weight")):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.3)
    x = torch.randn(2, 8, 7, 6)
    g = torch.randn(block.eval()(x).shape)
    found = {"x": x, "g": g}
    found |= {f"state/{k}": v.clone() for k, v in block.state_dict().items()}
    for mode in ("eval", "train"):
        block.train(mode == "train")
        block.zero_grad()
        at = x.clone().requires_grad_()
        y = block(at)
        (y * g).sum().backward()
        found |= {f"y_{mode}": y, f"dx_{mode}": at.grad}
    found |= {f"grad/{k}": v.grad for k, v in block.named_parameters()}
    block(2 * x + 1), block(-x)
    buffers = dict(block.named_buffers())
    found |= {f"after/{k}": v for k, v in buffers.items()}
    found["y_after"] = block.eval()(x)
    return {k: numpy(v) for k, v in found.items() if "num_batches" not in k}


if __name__ == "__main__":
    cases = {f"{c}:{k}": v for c in CASES for k, v in run(c).items()}
    np.savez_compressed(FILE, torch_version=torch.__version__, **cases)
