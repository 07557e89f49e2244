"""Records torchvision's pools of regions: `python tests/goldens/record_torchvision.py`.

Writes `torchvision.npz` beside itself: inputs, and for each case the output and the
gradient to x of its sum with given weights.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision

OUTPUT = (3, 2)
# x1, y1, x2, y2 on an image of 9 x 7 pixels, with spatial_scale 0.5.
BOXES = [
    [2.0, 3.0, 11.0, 12.0],
    [0.0, 0.0, 17.0, 13.0],
    [1.3, 2.7, 3.1, 4.9],
    [-3.0, -4.0, 5.0, 6.0],  # partly outside
    [13.0, 9.0, 24.0, 21.0],
    [-30.0, -30.0, -20.0, -20.0],  # outside
    [30.0, 4.0, 44.0, 9.0],
    [5.0, 5.0, 5.0, 5.0],  # a point
    [9.0, 8.0, 3.0, 2.0],  # inverted
    [0.0, 0.0, 18.0, 14.0],
    [-2.0, -2.0, 0.0, 0.0],  # the pixel beyond the border
    [3.0, 1.0, 4.0, 13.0],  # halves, to be rounded
]
CASES = {
    "roi_pool": [{}],
    "roi_align": [
        {"aligned": aligned, "sampling_ratio": ratio}
        for aligned in (True, False)
        for ratio in (1, 2, 3, -1)
    ],
    "ps_roi_pool": [{}],
    "ps_roi_align": [{"sampling_ratio": ratio} for ratio in (1, 2, -1)],
}


def main():
    rng = np.random.default_rng(0)
    boxes = np.array(BOXES, np.float32)
    index = np.arange(len(boxes)) % 2
    channels = {"roi": 2, "ps": 2 * OUTPUT[0] * OUTPUT[1]}
    found = {"boxes": boxes, "index": index.astype(np.int32)}
    for kind, count in channels.items():
        found[f"{kind}_x"] = rng.permutation(2 * count * 63).reshape(2, count, 7, 9)
        found[f"{kind}_x"] = (found[f"{kind}_x"] / 63).astype(np.float32)
    found["g"] = rng.normal(size=(len(boxes), 2, *OUTPUT)).astype(np.float32)
    rois = torch.tensor(np.concatenate([index[:, None], boxes], 1), dtype=torch.float32)
    labels = []
    for name, cases in CASES.items():
        op = getattr(torchvision.ops, name)
        for case in cases:
            x = torch.tensor(found[f"{name.split('_')[0]}_x"], requires_grad=True)
            y = op(x, rois, OUTPUT, spatial_scale=0.5, **case)
            (dx,) = torch.autograd.grad((y * torch.tensor(found["g"])).sum(), x)
            found[f"y{len(labels)}"] = y.detach().numpy()
            found[f"dx{len(labels)}"] = dx.numpy()
            labels.append([name, case])
    path = pathlib.Path(__file__).with_name("torchvision.npz")
    labels = json.dumps(labels)
    np.savez_compressed(path, labels=labels, version=torchvision.__version__, **found)
    print(path, torchvision.__version__, len(found))


if __name__ == "__main__":
    main()
