#!/usr/bin/python3
"""Each kernel of the cpu device against PyTorch's eager op, measured alternately
on one thread (or OMP_NUM_THREADS).

    cmake --build --preset release --target tombolo-device-bench
    runtime/bench/compare_with_torch.py build/release/bin/tombolo-device-bench [ROUNDS]

A row is: kernel, microseconds here, microseconds in PyTorch, their ratio (above
1: faster here). Each figure is the least over the rounds of a round's mean; on
one thread it is processor time, so that other work on the machine counts less."""

import json
import math
import os
import subprocess
import sys
import time

THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["OPENBLAS_NUM_THREADS"] = THREADS

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(int(THREADS))
torch.manual_seed(1)


def cases():
    """Kernel name -> the op PyTorch's eager training runs for it."""
    r = torch.randn
    x, wide, qkv = r(512, 256), r(512, 1024), r(512, 768)
    result = {}

    def linear(name, a, n):
        # nn.Linear's weight is [out, in].
        w, b = r(n, a.shape[1]), r(n)
        result["linear_" + name] = lambda: F.linear(a, w, b)

    linear("qkv", x, 768)
    linear("proj", x, 256)
    linear("fc1", x, 1024)
    linear("fc2", wide, 256)
    linear("fc1_torch_layout", x, 1024)
    wh = r(256, 256)
    result["head"] = lambda: F.linear(x, wh)

    def gradients(name, dy, a):
        # What autograd of F.linear runs: dy @ w, and dyᵀ @ a, added to .grad.
        w, grad = r(dy.shape[1], a.shape[1]), torch.zeros(dy.shape[1], a.shape[1])
        result["dx_" + name] = lambda: dy.mm(w)
        result["dw_" + name] = lambda: grad.add_(dy.t().mm(a))

    gradients("qkv", qkv, x)
    gradients("fc1", wide, x)
    gradients("fc2", x, wide)
    db = torch.zeros(1024)
    result["db_fc1"] = lambda: db.add_(wide.sum(0))

    g, b = r(256), r(256)
    result["layer_norm"] = lambda: torch.native_layer_norm(x, (256,), g, b, 1e-5)
    _, mean, rstd = torch.native_layer_norm(x, (256,), g, b, 1e-5)
    dy = r(512, 256)
    backward = torch.ops.aten.native_layer_norm_backward
    result["layer_norm_backward_input"] = lambda: backward(
        dy, x, (256,), mean, rstd, g, b, [True, False, False])
    result["layer_norm_backward_weight"] = lambda: backward(
        dy, x, (256,), mean, rstd, g, b, [False, True, True])
    dwide = r(512, 1024)
    for form, suffix in (("none", ""), ("tanh", "_tanh")):
        result["gelu" + suffix] = lambda form=form: F.gelu(wide, approximate=form)
        result["gelu_backward" + suffix] = lambda form=form: torch.ops.aten.gelu_backward(
            dwide, wide, approximate=form)
    y = r(512, 256)
    result["add"] = lambda: x + y
    table, tokens = r(256, 256), torch.randint(1, 256, (4, 128))
    result["embedding"] = lambda: F.embedding(tokens, table)
    de = r(4, 128, 256)
    result["embedding_backward"] = lambda: torch.ops.aten.embedding_dense_backward(
        de, tokens, 256, -1, False)

    fused = r(4, 128, 768).requires_grad_()
    mask = torch.ones(128, 128).tril().bool()

    def attention():
        q, k, v = (t.view(4, 128, 8, 32).transpose(1, 2) for t in fused.split(256, -1))
        scores = (q @ k.transpose(-1, -2)) * 0.17677669
        p = scores.masked_fill(~mask, -math.inf).softmax(-1)
        return (p @ v).transpose(1, 2).reshape(4, 128, 256)

    def forward_only():
        with torch.no_grad():
            attention()

    result["attention"] = forward_only
    do = r(4, 128, 256)
    out = attention()
    result["attention_backward"] = lambda: torch.autograd.grad(out, fused, do, retain_graph=True)

    labels = torch.randint(0, 256, (512,))
    result["cross_entropy"] = lambda: F.cross_entropy(x, labels, reduction="sum")
    logits = r(512, 256).requires_grad_()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    result["cross_entropy_backward"] = lambda: torch.autograd.grad(loss, logits, retain_graph=True)
    s = r(4096, 128)
    result["softmax"] = lambda: s.softmax(-1)

    p = r(4800000).requires_grad_()
    p.grad = r(4800000)
    optimizer = torch.optim.AdamW([p], lr=1e-3)
    result["adamw"] = optimizer.step
    return result


CLOCK, FIELD = ((time.process_time, "cpu_time") if THREADS == "1"
                else (time.perf_counter, "real_time"))


def measure(run):
    """Mean microseconds over about 0.1 s."""
    run()
    count, start = 0, CLOCK()
    while (elapsed := CLOCK() - start) < 0.1:
        run()
        count += 1
    return elapsed / count * 1e6


def main():
    bench, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch_cases = cases()
    ours, theirs = {}, {}
    for _ in range(rounds):
        output = subprocess.run([bench, "--benchmark_format=json", "--benchmark_min_time=0.1"],
                                check=True, capture_output=True, text=True).stdout
        for entry in json.loads(output)["benchmarks"]:
            name = entry["name"].split("/")[0]
            ours[name] = min(ours.get(name, math.inf), entry[FIELD])
        for name, run in torch_cases.items():
            theirs[name] = min(theirs.get(name, math.inf), measure(run))
    print(f"{'kernel':<28} {'tombolo us':>11} {'torch us':>11} {'ratio':>7}")
    for name, microseconds in ours.items():
        other = theirs.get(name, math.nan)
        print(f"{name:<28} {microseconds:>11.1f} {other:>11.1f} {other / microseconds:>7.2f}")


if __name__ == "__main__":
    main()
