"""Compares the samples per second of a training with PyTorch's: the same network, batch size, number of rows and threads, in turns.

PyTorch's loop is the plain one: the rows are tensors in memory, each batch is selected by a permutation, and the optimizer is AdamW, fused and not.
Both validate on the same share of the rows after each epoch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

# Batch sizes by kind of model, and rows.
MODELS = {"mlp": (100_000, (256, 4096)), "cnn": (8_000, (256,))}
RUNS = 3
VALIDATION_SHARE = 0.02


def network_of(hidden, inputs=None, image=None, filters=()):
    import torch

    layers, width = [], inputs
    if image:
        channels, (height, width) = 1, image
        for outputs in filters:
            layers += [torch.nn.Conv2d(channels, outputs, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
            channels, height, width = outputs, height // 2, width // 2
        layers.append(torch.nn.Flatten())
        width = channels * height * width
    for outputs in hidden:
        layers += [torch.nn.Linear(width, outputs), torch.nn.ReLU()]
        width = outputs
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def pytorch(rows, batch_size, epochs, fused, threads, **sizes):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = (1, *sizes["image"]) if "image" in sizes else (sizes["inputs"],)
    values, labels = torch.rand(rows, *shape), (torch.rand(rows, 1) > 0.5).float()
    split = rows - round(rows * VALIDATION_SHARE)
    network = network_of(**sizes)
    loss_of = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5, fused=fused)
    for epoch in range(epochs):
        if epoch == 1:
            started = time.perf_counter()
        total, order = 0.0, torch.randperm(split)
        for batch in order.split(batch_size):
            optimizer.zero_grad()
            loss = loss_of(network(values[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            loss_of(network(values[split:]), labels[split:]).item()
    return split * (epochs - 1) / (time.perf_counter() - started)


def cores():
    return sorted(os.sched_getaffinity(0))


def measured(command, allowed):
    pinned = ["taskset", "--cpu-list", ",".join(map(str, allowed)), *command]
    printed = subprocess.run(pinned, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the example `training_speed` of rekindle-training")
    parser.add_argument("--rows", type=int, help="of each kind of model; by default 100,000 of the perceptron and 8,000 of the convolutional network")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--epochs", type=int, default=6, help="the first one is not measured")
    parser.add_argument("--pytorch", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pytorch:
        print(json.dumps({"samples_per_second": pytorch(**json.loads(args.pytorch))}))
        return
    table = {}
    cases = [(model, args.rows or MODELS[model][0], batch) for model in args.models for batch in MODELS[model][1]]
    for model, rows, batch_size in cases:
        for allowed in ([cores()[-1]], cores()):
            own = [args.program, model, str(rows), str(batch_size), str(args.epochs)]
            shape = {key: value for key, value in measured(own, allowed).items() if key != "samples_per_second"}
            given = dict(rows=rows, batch_size=batch_size, epochs=args.epochs, threads=len(allowed), **shape)
            peer = lambda fused: [sys.executable, __file__, "-", "--pytorch", json.dumps(dict(given, fused=fused))]
            commands = {"rekindle": own, "PyTorch": peer(False), "PyTorch, fused": peer(True)}
            rates = {name: [] for name in commands}
            for _ in range(RUNS):
                for name, command in commands.items():
                    rates[name].append(measured(command, allowed)["samples_per_second"])
            key = (model, batch_size, len(allowed))
            table[key] = {name: statistics.median(found) for name, found in rates.items()}
            row = ", ".join(f"{name} {rate:,.0f}" for name, rate in table[key].items())
            print(f"{model}, batch {batch_size}, {len(allowed)} threads, samples/s: {row}", flush=True)
    print("\n| model | batch size | threads | rekindle, samples/s | PyTorch | PyTorch, fused | beside the faster one | beside one thread |")
    print("|---|---|---|---|---|---|---|---|")
    for (model, batch_size, threads), rates in table.items():
        own, plain, fused = (rates[name] for name in ("rekindle", "PyTorch", "PyTorch, fused"))
        single = table[model, batch_size, 1]["rekindle"]
        print(
            f"| {model} | {batch_size} | {threads} | {own:,.0f} | {plain:,.0f} | {fused:,.0f} | {own / max(plain, fused):.2f} | {own / single:.2f} |"
        )


if __name__ == "__main__":
    main()
