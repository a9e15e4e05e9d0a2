"""Prints the tables of zoo_lmdvit.rs: LMD-ViT in float64 with NumPy, written from the paper, one window at a time.

It rolls, cuts and masks as the paper says, where the graph gathers by table. The goldens are square, so this is what
would notice rows and columns being mixed up.

Usage: python3 models/tests/lmdvit_reference.py   (from the repository root; needs numpy, scipy, safetensors)
"""

import collections
import io
import pickle
import zipfile

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf

GOLDEN = "tests/goldens/lmdvit_tiny_dim8"
DEPTHS = [1, 2, 4, 1, 1, 1, 3, 2, 1]
HEADS = [1, 2, 4, 8, 16, 16, 8, 4, 2]
LAYERS = [f"encoderlayer_{i}" for i in range(4)] + ["conv"] + [f"decoderlayer_{i}" for i in range(4)]


class Unpickler(pickle.Unpickler):
    """The state dict of a PyTorch zip file."""

    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)
        self.root = self.archive.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(self.archive.read(self.root + "/data.pkl")))

    def find_class(self, module, name):
        kinds = {"OrderedDict": collections.OrderedDict, "FloatStorage": "<f4", "LongStorage": "<i8"}
        return self.tensor if name == "_rebuild_tensor_v2" else kinds.get(name)

    def persistent_load(self, pid):
        return np.frombuffer(self.archive.read(f"{self.root}/data/{pid[2]}"), pid[1])

    @staticmethod
    def tensor(values, offset, size, stride, *_):
        strides = [step * values.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy()


def load(path):
    state = Unpickler(path).load()["state_dict"]
    return {name.removeprefix("module."): value for name, value in state.items()}


def uniform(seed, n):
    """tapetum_runtime::seed::Seeded::vec(n, 0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / (1 << 24)


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


class LmdVit:
    def __init__(self, tensors):
        self.t = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in tensors.items()}
        self.decisions, self.margins = [], []

    def linear(self, name, x):
        return x @ self.t[name + ".weight"].T + self.t[name + ".bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred / spread * self.t[name + ".weight"] + self.t[name + ".bias"]

    def conv(self, name, x, stride):
        w = self.t[name + ".weight"]
        k = w.shape[2]
        x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        taps = np.lib.stride_tricks.sliding_window_view(x, (k, k), (0, 1))[::stride, ::stride]
        return np.einsum("hwcij,ocij->hwo", taps, w, optimize=True) + self.t[name + ".bias"]

    def predict(self, name, x, shift):
        h, w, c = x.shape
        f = gelu(self.linear(name + ".in_conv.0", x.reshape(-1, c)))
        f = self.linear(name + ".in_conv.3", self.norm(name + ".in_conv.2", f))
        f[:, c // 2 :] = f[:, c // 2 :].mean(0)
        for part in (0, 2):
            f = gelu(self.linear(f"{name}.out_conv.{part}", f))
        scores = np.roll(self.linear(name + ".out_conv.4", f).reshape(h, w, 2), (-shift, -shift), (0, 1))
        scores = scores.reshape(h // 8, 8, w // 8, 8, 2).mean((1, 3))
        p0 = 1 / (1 + np.exp(scores[..., 1] - scores[..., 0]))
        self.decisions.append(p0 > 0.5)
        self.margins.append(np.abs(p0 - 0.5).min())
        return p0 > 0.5

    def window(self, name, s, regions, heads, shift):
        c = s.shape[-1]
        s = s.reshape(64, c)
        a = self.norm(name + ".norm1", s) + self.t.get(name + ".modulator.weight", 0)
        split = lambda x: x.reshape(64, heads, c // heads).transpose(1, 0, 2)
        kv = self.linear(name + ".attn.qkv.to_kv", a)
        q, k, v = split(self.linear(name + ".attn.qkv.to_q", a)), split(kv[:, :c]), split(kv[:, c:])
        scores = q @ k.transpose(0, 2, 1) * (c // heads) ** -0.5
        scores += self.t[name + ".attn.relative_position_bias_table"][
            self.t[name + ".attn.relative_position_index"]
        ].transpose(2, 0, 1)
        if shift:
            regions = regions.reshape(64)
            scores += np.where(regions[:, None] != regions[None], -100.0, 0.0)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        z = s + self.linear(name + ".attn.proj", (shares @ v).transpose(1, 0, 2).reshape(64, c))
        m = gelu(self.linear(name + ".mlp.linear1.0", self.norm(name + ".norm2", z))).reshape(8, 8, -1)
        m = np.pad(m, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        kernel = self.t[name + ".mlp.dwconv.0.weight"][:, 0]
        m = sum(m[i : i + 8, j : j + 8] * kernel[:, i, j] for i in range(3) for j in range(3))
        m = gelu(m + self.t[name + ".mlp.dwconv.0.bias"]).reshape(64, -1)
        return (z + self.linear(name + ".mlp.linear2.0", m)).reshape(8, 8, c)

    def layer(self, i, x):
        keep = {}
        h, w, _ = x.shape
        band = lambda n: np.where(np.arange(n) < n - 8, 0, np.where(np.arange(n) < n - 4, 1, 2))
        regions = band(h)[:, None] * 3 + band(w)[None]
        for block in range(DEPTHS[i]):
            name, shift = f"{LAYERS[i]}.blocks.{block}", 4 * (block % 2)
            if block < 2:
                keep[block] = self.predict(name + ".score_predictor", x, shift)
            s = np.roll(x, (-shift, -shift), (0, 1))
            for r, c in np.argwhere(keep[block % 2]) * 8:
                at = np.s_[r : r + 8, c : c + 8]
                s[at] = self.window(name, s[at], regions[at], HEADS[i], shift)
            x = np.roll(s, (shift, shift), (0, 1))
        return x

    def __call__(self, image):
        x = self.conv("input_proj.proj.0", image.transpose(1, 2, 0), 1)
        x = np.where(x > 0, x, 0.01 * x)
        skips = []
        for i in range(4):
            x = self.layer(i, x)
            skips.append(x)
            x = self.conv(f"dowsample_{i}.conv.0", x, 2)
        x = self.layer(4, x)
        for i in range(4):
            w = self.t[f"upsample_{i}.deconv.0.weight"]
            h, v, _ = x.shape
            x = np.einsum("hwc,cokl->hkwlo", x, w, optimize=True).reshape(2 * h, 2 * v, -1)
            x = x + self.t[f"upsample_{i}.deconv.0.bias"]
            x = self.layer(5 + i, np.concatenate([x, skips[3 - i]], -1))
        y = self.conv("output_proj.proj.0", x, 1).transpose(2, 0, 1)
        gate = np.maximum(1 / (1 + np.exp(-y[3:])), 0.1)
        return image + y[:3] * gate


def main():
    tensors = load(f"{GOLDEN}/checkpoint.pth")
    golden = load_file(f"{GOLDEN}/io.safetensors")
    print("// against the golden:", np.abs(LmdVit(tensors)(golden["input"][0]) - golden["output"][0]).max())
    for h, w in [(128, 256), (384, 128)]:
        image = uniform(h, 3 * h * w).reshape(3, h, w)
        image[:, : h // 2, : w // 2] = 0.5
        image[:, h // 2 :, w // 3 :] *= 0.25
        net = LmdVit(tensors)
        out = net(image)
        kept = [int(d.sum()) for d in net.decisions]
        places = [(i * 13007 + 13) % out.size for i in range(8)]
        values = ", ".join(f"({p}, {round(float(out.reshape(-1)[p]), 7)})" for p in places)
        print(f"// smallest margin {min(net.margins):.5f}, of {[d.size for d in net.decisions]} windows")
        print(f"Reference {{ height: {h}, width: {w}, kept: &{kept}, restored: &[{values}] }},")


if __name__ == "__main__":
    main()
