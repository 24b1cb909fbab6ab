"""A reader of small QR pictures, written from ISO/IEC 18004 without a look at the library that draws them."""

import re

MASKS = [
    lambda i, j: (i + j) % 2,
    lambda i, j: i % 2,
    lambda i, j: j % 3,
    lambda i, j: (i + j) % 3,
    lambda i, j: (i // 2 + j // 3) % 2,
    lambda i, j: i * j % 2 + i * j % 3,
    lambda i, j: (i * j % 2 + i * j % 3) % 2,
    lambda i, j: ((i + j) % 2 + i * j % 3) % 2,
]

LEVELS = {0b01: "L", 0b00: "M", 0b11: "Q", 0b10: "H"}


def modules(svg):
    """-> rows of 0 and 1, of a picture whose dark modules are runs of a stroke one high, its quiet zone cut off."""
    size = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    grid = [[0] * size for _ in range(size)]
    x = y = 0.0
    for kind, numbers in re.findall(r"([Mmh])([-\d. ]+)", re.search(r'stroke="#000" d="([^"]+)"', svg)[1]):
        values = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
        if kind == "M":
            x, y = values
        elif kind == "m":
            x, y = x + values[0], y + values[1]
        else:
            for column in range(int(x), int(x + values[0])):
                grid[int(y)][column] = 1
            x += values[0]
    edge = 4
    assert not any(map(any, grid[:edge]))
    assert not any(any(row[:edge]) for row in grid)
    return [row[edge:-edge] for row in grid[edge:-edge]]


def read(grid):
    """-> the text of a picture of version 2 or 3 that holds bytes; errors are not corrected."""
    size = len(grid)
    version = (size - 17) // 4
    assert version in (2, 3)
    format_bits = [grid[8][i] for i in (0, 1, 2, 3, 4, 5, 7, 8)]
    mask = int("".join(map(str, format_bits[2:5])), 2) ^ 0b101
    level = LEVELS[int("".join(map(str, format_bits[:2])), 2) ^ 0b10]
    centre = size - 7
    taken = [[False] * size for _ in range(size)]
    for i in range(size):
        for j in range(size):
            finder = (i < 9 and j < 9) or (i < 9 and j >= size - 8) or (i >= size - 8 and j < 9)
            taken[i][j] = finder or i == 6 or j == 6 or (abs(i - centre) <= 2 and abs(j - centre) <= 2)
    bits, upwards, right = [], True, size - 1
    while right > 0:
        right -= right == 6
        for step in range(size):
            i = size - 1 - step if upwards else step
            bits += [grid[i][j] ^ (MASKS[mask](i, j) == 0) for j in (right, right - 1) if not taken[i][j]]
        upwards, right = not upwards, right - 2
    words = ["".join(str(int(bit)) for bit in bits[k : k + 8]) for k in range(0, len(bits) - 7, 8)]
    blocks = 2 if version == 3 and level in "QH" else 1  # of equal length, their words taken in turns
    data = words[: blocks * (17 if level == "Q" else 13)] if blocks == 2 else words
    stream = "".join(word for block in range(blocks) for word in data[block::blocks])
    assert stream[:4] == "0100", "bytes"
    length = int(stream[4:12], 2)
    return bytes(int(stream[12 + 8 * k : 20 + 8 * k], 2) for k in range(length)).decode()
