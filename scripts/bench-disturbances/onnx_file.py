"""Writes networks of any size as ONNX files, as protocol buffers in the wire format and without a package.

FEATURES-W-W-W-W-W-1 with ReLU and without biases: one FP32 input `x` [n, FEATURES], output `y` [n, 1]. The field numbers are those of
onnx.proto3 of ONNX 1.19. The weights repeat a block of a megabyte, so that memory does not grow with the file.
"""

import array
import math
import random
import sys

# Matrices of W x W, which are all but a few kilobytes of the file.
SQUARES = 4
# Of 2021, so that every runtime reads it.
OPSET, IR_VERSION = 14, 8
FLOAT = 1
BLOCK_BYTES = 1 << 20
VARINT, BYTES = 0, 2


def write(path, size, features, seed):
    """Writes a network of about `size` bytes; each seed gives other weights."""
    width = max(math.isqrt(size // (4 * SQUARES)), 1)
    sizes = [features, *[width] * (SQUARES + 1), 1]
    shapes = list(zip(sizes, sizes[1:]))
    # Activations neither grow nor vanish from layer to layer.
    bound = (6 / width) ** 0.5
    block = weights_block(random.Random(seed), bound)
    heads = [tensor_head(f"w{layer}", *shape) for layer, shape in enumerate(shapes)]
    nodes = b"".join(layer_nodes(layer, len(shapes)) for layer in range(len(shapes)))
    start = nodes + text(2, "network")
    end = message(11, value("x", features)) + message(12, value("y", 1))
    weights = [4 * rows * columns for rows, columns in shapes]
    of_tensors = sum(len(head) + data for head, data in zip(heads, weights))
    with path.open("wb") as file:
        file.write(number(1, IR_VERSION) + message(8, text(1, "") + number(2, OPSET)))
        file.write(key(7, BYTES) + varint(len(start) + of_tensors + len(end)) + start)
        for head, data in zip(heads, weights):
            file.write(head)
            write_repeated(file, block, data)
        file.write(end)


def weights_block(draw, bound):
    """Little-endian floats within the bound."""
    floats = array.array("f", (draw.uniform(-bound, bound) for _ in range(BLOCK_BYTES // 4)))
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def write_repeated(file, block, size):
    while size > 0:
        size -= file.write(block[:size])


def layer_nodes(layer, layers):
    """The nodes of the graph for one matrix, as fields of it: a Gemm, and a ReLU behind all but the last."""
    last = layer == layers - 1
    inputs = "x" if layer == 0 else f"hidden{layer - 1}"
    sums = "y" if last else f"sums{layer}"
    gemm = message(1, text(1, inputs) + text(1, f"w{layer}") + text(2, sums) + text(4, "Gemm"))
    relu = message(1, text(1, sums) + text(2, f"hidden{layer}") + text(4, "Relu"))
    return gemm if last else gemm + relu


def tensor_head(name, rows, columns):
    """An initializer of the graph up to its weights."""
    size = 4 * rows * columns
    head = number(1, rows) + number(1, columns) + number(2, FLOAT) + text(8, name) + key(9, BYTES) + varint(size)
    return key(5, BYTES) + varint(len(head) + size) + head


def value(name, columns):
    """A float tensor of any number of rows."""
    shape = message(1, text(2, "n")) + message(1, number(1, columns))
    return text(1, name) + message(2, message(1, number(1, FLOAT) + message(2, shape)))


def varint(natural):
    out = bytearray()
    while natural > 0x7F:
        out.append(natural & 0x7F | 0x80)
        natural >>= 7
    out.append(natural)
    return bytes(out)


def key(field, wire_type):
    return varint(field << 3 | wire_type)


def number(field, natural):
    return key(field, VARINT) + varint(natural)


def message(field, encoded):
    return key(field, BYTES) + varint(len(encoded)) + encoded


def text(field, string):
    return message(field, string.encode())
