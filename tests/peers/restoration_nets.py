"""DEA-Net and LMD-ViT in eager PyTorch, as their papers and published checkpoints describe them.

    python restoration_nets.py     checks both against tests/goldens and prints the error of each case

Parameters are called as in the checkpoints, so that `load_state_dict` takes one. Sizes come from the names and shapes.
Pictures are `[N, 3, H, W]`, RGB, 0..1. Padding, crop and clamp are not part of the networks; `restore` does them.
"""
import json
import math
import pathlib
import re
import sys
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

State = Mapping[str, Tensor]
GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"


# --------------------------------------------------------------------------------------------------------- DEA-Net

class Central(nn.Module):
    """Central difference: the centre weighs the negative sum of the eight others."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3)

    def kernel(self) -> Tensor:
        flat = self.conv.weight.flatten(2)
        centre = torch.zeros(9, dtype=flat.dtype)
        centre[4] = 1
        return (flat - centre * flat.sum(-1, keepdim=True)).view_as(self.conv.weight)


class Horizontal(nn.Module):
    """Left column minus right column, one weight `[out, in, 3]` for each row."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3)

    def kernel(self) -> Tensor:
        w = self.conv.weight
        return torch.stack([w, torch.zeros_like(w), -w], dim=-1)


class Vertical(nn.Module):
    """Upper row minus lower row, one weight `[out, in, 3]` for each column."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3)

    def kernel(self) -> Tensor:
        w = self.conv.weight
        return torch.stack([w, torch.zeros_like(w), -w], dim=-2)


class Angular(nn.Module):
    """Each weight minus its neighbour around the ring."""

    NEXT = [3, 0, 1, 6, 4, 2, 7, 8, 5]

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3)

    def kernel(self) -> Tensor:
        flat = self.conv.weight.flatten(2)
        return (flat - flat[..., self.NEXT]).view_as(self.conv.weight)


class DetailConv(nn.Module):
    """Detail-enhanced convolution in training form: five 3x3 branches with bias, summed.

    Kernels are built anew in each forward pass. `merged` sums them and runs one convolution instead of five.
    """

    merged = False

    def __init__(self, dim: int):
        super().__init__()
        self.conv1_1 = Central(dim)
        self.conv1_2 = Horizontal(dim)
        self.conv1_3 = Vertical(dim)
        self.conv1_4 = Angular(dim)
        self.conv1_5 = nn.Conv2d(dim, dim, 3)

    def branches(self) -> list[tuple[Tensor, Tensor]]:
        differences = (self.conv1_1, self.conv1_2, self.conv1_3, self.conv1_4)
        made = [(branch.kernel(), branch.conv.bias) for branch in differences]
        return [*made, (self.conv1_5.weight, self.conv1_5.bias)]

    def forward(self, x: Tensor) -> Tensor:
        branches = self.branches()
        if self.merged:
            return F.conv2d(x, sum(w for w, _ in branches), sum(b for _, b in branches), padding=1)
        return sum(F.conv2d(x, w, b, padding=1) for w, b in branches)


class SpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.sa = nn.Conv2d(2, 1, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return self.sa(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1))


class ChannelAttention(nn.Module):
    def __init__(self, dim: int, reduction: int):
        super().__init__()
        self.ca = nn.Sequential(nn.Conv2d(dim, dim // reduction, 1), nn.ReLU(), nn.Conv2d(dim // reduction, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.ca(x.mean((2, 3), keepdim=True))


class PixelAttention(nn.Module):
    """One 7x7 group for each channel, over that channel and its attention map."""

    def __init__(self, dim: int):
        super().__init__()
        self.pa2 = nn.Conv2d(2 * dim, dim, 7, padding=3, padding_mode="reflect", groups=dim)

    def forward(self, x: Tensor, attention: Tensor) -> Tensor:
        return torch.sigmoid(self.pa2(torch.stack([x, attention], dim=2).flatten(1, 2)))


class DEBlock(nn.Module):
    def __init__(self, dim: int, deployed: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1) if deployed else DetailConv(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x)) + x) + x


class DEABlock(nn.Module):
    def __init__(self, dim: int, deployed: bool, reduction: int = 8):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1) if deployed else DetailConv(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.sa, self.ca, self.pa = SpatialAttention(), ChannelAttention(dim, reduction), PixelAttention(dim)

    def forward(self, x: Tensor) -> Tensor:
        r = self.conv2(F.relu(self.conv1(x)) + x)
        return r * self.pa(r, self.sa(r) + self.ca(r)) + x


class CGAFusion(nn.Module):
    def __init__(self, dim: int, reduction: int):
        super().__init__()
        self.sa, self.ca, self.pa = SpatialAttention(), ChannelAttention(dim, reduction), PixelAttention(dim)
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        i = x + y
        gate = torch.sigmoid(self.pa(i, self.sa(i) + self.ca(i)))  # a sigmoid of a sigmoid, on purpose
        return self.conv(i + gate * x + (1 - gate) * y)


class DEANet(nn.Module):
    """Height and width must be multiples of 4 and at least 16."""

    def __init__(self, dim: int = 32, deployed: bool = False):
        super().__init__()
        relu = nn.ReLU
        self.down1 = nn.Sequential(nn.Conv2d(3, dim, 3, padding=1))
        self.down2 = nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1), relu())
        self.down3 = nn.Sequential(nn.Conv2d(2 * dim, 4 * dim, 3, stride=2, padding=1), relu())
        for level, width in ((1, dim), (2, 2 * dim)):
            for side in ("down", "up"):
                for n in range(1, 5):
                    setattr(self, f"{side}_level{level}_block{n}", DEBlock(width, deployed))
        self.fe_level_2 = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1)
        self.fe_level_3 = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1)
        for n in range(1, 9):
            setattr(self, f"level3_block{n}", DEABlock(4 * dim, deployed))
        up = dict(stride=2, padding=1, output_padding=1)
        self.up1 = nn.Sequential(nn.ConvTranspose2d(4 * dim, 2 * dim, 3, **up), relu())
        self.up2 = nn.Sequential(nn.ConvTranspose2d(2 * dim, dim, 3, **up), relu())
        self.up3 = nn.Sequential(nn.Conv2d(dim, 3, 3, padding=1))
        self.mix1, self.mix2 = CGAFusion(4 * dim, 8), CGAFusion(2 * dim, 4)

    def blocks(self, name: str, x: Tensor, count: int) -> Tensor:
        for n in range(1, count + 1):
            x = getattr(self, f"{name}_block{n}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        d2 = self.down2(self.blocks("down_level1", self.down1(x), 4))
        d3 = self.down3(self.blocks("down_level2", self.fe_level_2(d2), 4))
        y = self.blocks("level3", self.fe_level_3(d3), 8)
        u1 = self.blocks("up_level2", self.up1(self.mix1(d3, y)), 4)
        u2 = self.blocks("up_level1", self.up2(self.mix2(d2, u1)), 4)
        return self.up3(u2)


def deanet(state: State) -> DEANet:
    net = DEANet(state["down1.0.weight"].shape[0], "down_level1_block1.conv1.weight" in state)
    net.load_state_dict(state)
    return net.eval()


def merge_branches(net: DEANet) -> DEANet:
    """The same network in deployment form; kernels are summed in f64."""
    state = dict(net.state_dict())
    for name, module in net.named_modules():
        if isinstance(module, DetailConv):
            for key in [key for key in state if key.startswith(f"{name}.")]:
                del state[key]
            kernels, biases = zip(*((w.detach().double(), b.detach().double()) for w, b in module.branches()))
            state[f"{name}.weight"], state[f"{name}.bias"] = sum(kernels).float(), sum(biases).float()
    return deanet(state)


# --------------------------------------------------------------------------------------------------------- LMD-ViT

WINDOW = 8
SHIFT = WINDOW // 2


def to_windows(x: Tensor) -> Tensor:
    """`[B, H, W, C]` to `[B·windows, 64, C]`."""
    b, h, w, c = x.shape
    x = x.view(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
    return x.reshape(-1, WINDOW * WINDOW, c)


def from_windows(x: Tensor, b: int, h: int, w: int) -> Tensor:
    """The reverse of `to_windows`."""
    x = x.view(b, h // WINDOW, w // WINDOW, WINDOW, WINDOW, -1).transpose(2, 3)
    return x.reshape(b, h, w, -1)


@lru_cache(maxsize=64)
def shift_mask(h: int, w: int) -> Tensor:
    """`[windows, 64, 64]`: −100 between tokens that were not neighbours before the roll."""
    def bands(size: int) -> Tensor:
        at = torch.arange(size)
        return (at >= size - WINDOW).int() + (at >= size - SHIFT).int()

    region = (3 * bands(h)[:, None] + bands(w)).float().view(1, h, w, 1)
    region = to_windows(region).squeeze(-1)
    return -100.0 * (region[:, :, None] != region[:, None, :]).float()


class Predictor(nn.Module):
    """Scores `[B, H, W, 2]` (keep, prune) from tokens `[B, HW, C]`."""

    def __init__(self, dim: int):
        super().__init__()
        self.in_conv = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.out_conv = nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(),
                                      nn.Linear(dim // 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = self.in_conv(x.view(b, h * w, c))
        near, far = x[..., :c // 2], x[..., c // 2:].mean(1, keepdim=True)
        x = torch.cat([near, far.expand(b, h * w, -1)], dim=-1)
        return self.out_conv(x).view(b, h, w, 2)


class QKV(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.to_q, self.to_kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)


class WindowAttention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.int64))
        self.qkv, self.proj = QKV(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows `[K, 64, C]`, mask `[K, 64, 64]`."""
        k, n, c = x.shape
        split = (k, n, self.heads, c // self.heads)
        q = self.qkv.to_q(x).view(split).transpose(1, 2) * self.scale
        key, value = (part.reshape(split).transpose(1, 2) for part in self.qkv.to_kv(x).chunk(2, dim=-1))
        scores = q @ key.transpose(-2, -1)
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask[:, None]
        return self.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(k, n, c))


class LeFF(nn.Module):
    """Feed-forward with a depthwise convolution inside each window `[K, 64, C]`."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        conv = nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="reflect", groups=hidden)
        self.dwconv = nn.Sequential(conv, nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(x).transpose(1, 2).unflatten(2, (WINDOW, WINDOW))
        return self.linear2(self.dwconv(x).flatten(2).transpose(1, 2))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, shifted: bool, predicts: bool, modulated: bool):
        super().__init__()
        self.shift = SHIFT if shifted else 0
        self.score_predictor = Predictor(dim) if predicts else None
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.modulator = nn.Embedding(WINDOW**2, dim) if modulated else None
        self.attn, self.mlp = WindowAttention(dim, heads), LeFF(dim, hidden)

    def scores(self, x: Tensor) -> Tensor:
        """Probability of keeping each window `[B·windows]`, in the rolled frame of a shifted block."""
        scores = self.score_predictor(x)
        if self.shift:
            scores = scores.roll((-self.shift, -self.shift), (1, 2))
        return to_windows(scores).mean(1).softmax(-1)[:, 0]

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        """`x` `[B, H, W, C]`, `kept` bool `[B·windows]`."""
        if not kept.any():
            return x
        b, h, w, _ = x.shape
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        windows = to_windows(x)
        s = windows[kept]
        mask = shift_mask(h, w).repeat(b, 1, 1)[kept] if self.shift else None
        a = self.norm1(s)
        if self.modulator is not None:
            a = a + self.modulator.weight
        z = s + self.attn(a, mask)
        windows = windows.clone()
        windows[kept] = z + self.mlp(self.norm2(z))
        x = from_windows(windows, b, h, w)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


class Layer(nn.Module):
    def __init__(self, blocks: list[Block]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, log: list[Tensor] | None) -> Tensor:
        b, h, w, _ = x.shape
        kept: dict[int, Tensor] = {}
        for n, block in enumerate(self.blocks):
            if block.score_predictor is not None:
                scores = block.scores(x)
                kept[n % 2] = scores > 0.5
                if log is not None:
                    log.append(scores.view(b, 1, h // WINDOW, w // WINDOW))
            x = block(x, kept[n % 2])
        return x


class Down(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Up(nn.Module):
    def __init__(self, dim: int, out: int):
        super().__init__()
        self.deconv = nn.Sequential(nn.ConvTranspose2d(dim, out, 2, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.deconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Projection(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.proj = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class LMDViT(nn.Module):
    """Height and width must be multiples of 128. `depths` and `heads`: encoder 0–3, bottleneck, decoder 0–3."""

    def __init__(self, dim: int, depths: list[int], heads: list[int], ratio: int = 4, modulator: bool = True):
        super().__init__()

        def layer(n: int, width: int) -> Layer:
            modulated = modulator and n > 4
            blocks = [Block(width, heads[n], ratio * width, i % 2 == 1, i < 2, modulated) for i in range(depths[n])]
            return Layer(blocks)

        self.input_proj = Projection(nn.Conv2d(3, dim, 3, padding=1), nn.LeakyReLU(0.01))
        for n in range(4):
            setattr(self, f"encoderlayer_{n}", layer(n, dim << n))
            setattr(self, f"dowsample_{n}", Down(dim << n))
            setattr(self, f"upsample_{n}", Up(min(dim << (5 - n), dim << 4), dim << (3 - n)))
            setattr(self, f"decoderlayer_{n}", layer(5 + n, dim << (4 - n)))
        self.conv = layer(4, dim << 4)
        self.output_proj = Projection(nn.Conv2d(2 * dim, 4, 3, padding=1))

    def forward(self, x: Tensor, scores: list[Tensor] | None = None, gates: list[Tensor] | None = None) -> Tensor:
        """`scores` receives each predictor's keep probabilities in the order of execution, `gates` the gate."""
        y = self.input_proj(x).permute(0, 2, 3, 1)
        skips = []
        for n in range(4):
            y = getattr(self, f"encoderlayer_{n}")(y, scores)
            skips.append(y)
            y = getattr(self, f"dowsample_{n}")(y)
        y = self.conv(y, scores)
        for n in range(4):
            y = torch.cat([getattr(self, f"upsample_{n}")(y), skips.pop()], dim=-1)
            y = getattr(self, f"decoderlayer_{n}")(y, scores)
        y = self.output_proj(y.permute(0, 3, 1, 2))
        gate = torch.sigmoid(y[:, 3:]).clamp(min=0.1)
        if gates is not None:
            gates.append(gate)
        return x + y[:, :3] * gate


def lmdvit(state: State) -> LMDViT:
    layers = [*(f"encoderlayer_{n}" for n in range(4)), "conv", *(f"decoderlayer_{n}" for n in range(4))]
    depths = [len({m[1] for key in state if (m := re.match(rf"{layer}\.blocks\.(\d+)\.", key))}) for layer in layers]
    heads = [state[f"{layer}.blocks.0.attn.relative_position_bias_table"].shape[1] for layer in layers]
    hidden, dim = state["encoderlayer_0.blocks.0.mlp.linear1.0.weight"].shape
    net = LMDViT(dim, depths, heads, hidden // dim, "decoderlayer_0.blocks.0.modulator.weight" in state)
    net.load_state_dict(state)
    return net.eval()


# ---------------------------------------------------------------------------------------------- checkpoints, pictures

def load_state(path: pathlib.Path) -> State:
    """The tensors of a checkpoint, out of its wrapper."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model", "state_dict"):
        state = state.get(key, state)
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_golden(name: str) -> DEANet | LMDViT:
    path = next((GOLDENS / name).glob("checkpoint.*"))
    return (deanet if name.startswith("deanet") else lmdvit)(load_state(path))


def padding(net: nn.Module, height: int, width: int) -> list[tuple[int, int]]:
    """(before, after) of both axes."""
    if isinstance(net, DEANet):
        return [(0, max(16, math.ceil(size / 4) * 4) - size) for size in (height, width)]
    more = [-size % 128 for size in (height, width)]
    return [(m // 2, m - m // 2) for m in more]


@torch.inference_mode()
def restore(net: nn.Module, picture: np.ndarray, **logs: list[Tensor]) -> np.ndarray:
    """u8 `[H, W, 3]` to u8 `[H, W, 3]`: scale, pad, network, crop, clamp, round half up."""
    height, width = picture.shape[:2]
    pads = padding(net, height, width)
    mode = "reflect" if isinstance(net, DEANet) else "constant"
    padded = np.pad(picture.astype(np.float32) / np.float32(255), [*pads, (0, 0)], mode=mode)
    out = net(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()), **logs)[0].numpy().transpose(1, 2, 0)
    (top, _), (left, _) = pads
    out = out[top:top + height, left:left + width]
    return np.floor(np.clip(out * np.float32(255), 0, 255) + np.float32(0.5)).astype(np.uint8)


@torch.inference_mode()
def check(name: str) -> bool:
    """Prints how far the golden `name` is missed; whether it holds."""
    net = load_golden(name)
    case = json.loads((GOLDENS / name / "case.json").read_text())
    io = load_file(GOLDENS / name / "io.safetensors")
    tolerance = case["rel_tol"] * max(1.0, case["output_abs_max"])
    if isinstance(net, DEANet):
        forms = {"as stored": net}
        if any(isinstance(module, DetailConv) for module in net.modules()):
            forms["merged"] = merge_branches(net)
        errors = {form: (one(io["input"]) - io["output"]).abs().max().item() for form, one in forms.items()}
        equal = True
    else:
        scores, gates = [], []
        errors = {"output": (net(io["input"], scores, gates) - io["output"]).abs().max().item()}
        errors["gate"] = (gates[0] - io["gate"]).abs().max().item()
        wanted = [io[f"decision_{n}"] for n in range(sum(key.startswith("decision_") for key in io))]
        equal = len(scores) == len(wanted) and all(torch.equal((s > 0.5).float(), w) for s, w in zip(scores, wanted))
    held = equal and max(errors.values()) <= tolerance
    listed = ", ".join(f"{form} {error:.1e}" for form, error in errors.items())
    decisions = "" if isinstance(net, DEANet) else f", decisions {'equal' if equal else 'DIFFER'}"
    print(f"{name}: max abs error {listed} (allowed {tolerance:.1e}){decisions}")
    return held


if __name__ == "__main__":
    cases = sorted(folder.name for folder in GOLDENS.iterdir() if folder.name.startswith(("deanet_", "lmdvit_")))
    if not all([check(name) for name in cases]):
        sys.exit("a golden does not hold")
