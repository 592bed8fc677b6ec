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

BATCHES = (256, 4096)
RUNS = 3
VALIDATION_SHARE = 0.02


def pytorch(rows, batch_size, epochs, fused, inputs, hidden, threads):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    values, labels = torch.rand(rows, inputs), (torch.rand(rows, 1) > 0.5).float()
    split = rows - round(rows * VALIDATION_SHARE)
    layers, width = [], inputs
    for outputs in hidden:
        layers += [torch.nn.Linear(width, outputs), torch.nn.ReLU()]
        width = outputs
    network = torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))
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
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=6, help="the first one is not measured")
    parser.add_argument("--pytorch", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pytorch:
        print(json.dumps({"samples_per_second": pytorch(**json.loads(args.pytorch))}))
        return
    table = {}
    for batch_size in BATCHES:
        for allowed in ([cores()[-1]], cores()):
            own = [args.program, str(args.rows), str(batch_size), str(args.epochs)]
            shape = {key: value for key, value in measured(own, allowed).items() if key in ("inputs", "hidden")}
            given = dict(rows=args.rows, batch_size=batch_size, epochs=args.epochs, threads=len(allowed), **shape)
            peer = lambda fused: [sys.executable, __file__, "-", "--pytorch", json.dumps(dict(given, fused=fused))]
            commands = {"rekindle": own, "PyTorch": peer(False), "PyTorch, fused": peer(True)}
            rates = {name: [] for name in commands}
            for _ in range(RUNS):
                for name, command in commands.items():
                    rates[name].append(measured(command, allowed)["samples_per_second"])
            table[batch_size, len(allowed)] = {name: statistics.median(found) for name, found in rates.items()}
            row = ", ".join(f"{name} {rate:,.0f}" for name, rate in table[batch_size, len(allowed)].items())
            print(f"batch {batch_size}, {len(allowed)} threads, samples/s: {row}", flush=True)
    print("\n| batch size | threads | rekindle, samples/s | PyTorch | PyTorch, fused | beside the faster one | beside one thread |")
    print("|---|---|---|---|---|---|---|")
    for (batch_size, threads), rates in table.items():
        own, plain, fused = (rates[name] for name in ("rekindle", "PyTorch", "PyTorch, fused"))
        single = table[batch_size, 1]["rekindle"]
        print(
            f"| {batch_size} | {threads} | {own:,.0f} | {plain:,.0f} | {fused:,.0f} | {own / max(plain, fused):.2f} | {own / single:.2f} |"
        )


if __name__ == "__main__":
    main()
