"""What the head of a GGUF file may hold, before a word of it is read."""

import io
import struct
from contextlib import nullcontext

import gguf
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from model.test_gguf_file import write

from wanda_core.model import gguf_header
from wanda_core.model.gguf_file import described
from wanda_core.model.gguf_header import BLOCKS, HeaderError, read_header


def test_a_gguf_files_head_is_walked_through(tiny_llama, tmp_path):
    write(tmp_path / "good.gguf", tiny_llama)
    read_header(tmp_path / "good.gguf")
    content = (tmp_path / "good.gguf").read_bytes()
    for at, value, said in (
        (8, 2**40, "1,099,511,627,776 tensors"),
        (16, 2**20, "1,048,576 fields"),
        (24, 2**50, "bytes"),
    ):
        (tmp_path / "bad.gguf").write_bytes(content[:at] + value.to_bytes(8, "little") + content[at + 8 :])
        with pytest.raises(HeaderError, match=said):
            read_header(tmp_path / "bad.gguf")
    name = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4
    (tmp_path / "bad.gguf").write_bytes(content[:name] + bytes(8) + content[name + 8 :])
    with pytest.raises(HeaderError, match="it names a tensor of no numbers"):
        read_header(tmp_path / "bad.gguf")
    (tmp_path / "bad.gguf").write_bytes(content[:20])
    with pytest.raises(HeaderError, match="it has 20 bytes"):
        read_header(tmp_path / "bad.gguf")


@pytest.mark.parametrize("piece", [8, 9, 33, 500])
def test_it_is_the_same_whatever_piece_of_it_is_in_memory_at_once(tiny_llama, tmp_path, monkeypatch, piece):
    write(tmp_path / "good.gguf", tiny_llama)
    whole = read_header(tmp_path / "good.gguf")
    monkeypatch.setattr(gguf_header, "PIECE", piece)
    assert read_header(tmp_path / "good.gguf") == whole


def test_a_file_that_is_cut_short_while_its_head_is_walked_through_is_told_so(tiny_llama, tmp_path):
    write(tmp_path / "good.gguf", tiny_llama)
    content, ends = (tmp_path / "good.gguf").read_bytes(), read_header(tmp_path / "good.gguf").ends
    for left in range(0, ends, 97):
        with pytest.raises(HeaderError, match="it was cut short while it was read"):
            gguf_header._Head(io.BytesIO(content[:left]), len(content)).read()
    assert gguf_header._Head(io.BytesIO(content[:ends]), len(content)).read().ends == ends


def of_lists(*lists, name="list", rows=0):
    """A GGUF file of lists of strings, and of embeddings of so many rows, if any."""
    text = lambda value: struct.pack("<Q", len(value)) + value  # noqa: E731
    fields = b"".join(
        text(name.encode()) + struct.pack("<IIQ", 9, 8, len(strings)) + b"".join(map(text, strings))
        for strings in lists
    )
    tensor = text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 2, rows, 0, 0) if rows else b""
    return b"GGUF" + struct.pack("<IQQ", 3, rows > 0, len(lists)) + fields + tensor + bytes(31 + 8 * rows)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([[b"a" * length for length in range(2000)]], "2,664,667,000 squares of the lengths"),
        ([[b""] * 600_000, [b""] * 600_000], "1,200,000 strings in lists"),
        ([[b"a"] * 10_001], "10,001 entries of lists, and at most 10,000"),
    ],
)
def test_the_strings_of_a_gguf_file_have_bounds(tmp_path, lists, said):
    (tmp_path / "bad.gguf").write_bytes(of_lists(*lists))
    with pytest.raises(HeaderError, match=said):
        read_header(tmp_path / "bad.gguf")


@pytest.mark.parametrize(
    ("name", "entries", "rows", "said"),
    [
        ("tokenizer.ggml.tokens", 12_001, 2000, "12,001 entries of tokenizer.ggml.tokens, and at most 12,000"),
        ("tokenizer.ggml.scores", 12_001, 2000, "12,001 entries of tokenizer.ggml.scores, and at most 12,000"),
        ("tokenizer.ggml.merges", 18_001, 2000, "18,001 entries of tokenizer.ggml.merges, and at most 18,000"),
        ("tokenizer.ggml.others", 12_000, 2000, "12,000 entries of lists, and at most 10,000"),
        ("llama.feed_forward_length", 12_000, 20_000, "12,000 entries of lists, and at most 10,000"),
        ("tokenizer.ggml.tokens", 12_000, 2000, None),
        ("tokenizer.ggml.merges", 18_000, 2000, None),
    ],
)
def test_lists_of_a_gguf_file_are_as_long_as_its_vocabulary(tmp_path, name, entries, rows, said):
    (tmp_path / "a.gguf").write_bytes(of_lists([b"a"] * entries, name=name, rows=rows))
    with pytest.raises(HeaderError, match=said) if said else nullcontext():
        assert read_header(tmp_path / "a.gguf").lists == {name: entries}


def test_the_tokens_of_a_gguf_file_have_a_length_together(tmp_path):
    (tmp_path / "a.gguf").write_bytes(of_lists([b"a" * 420] * 20_000, name="tokenizer.ggml.tokens", rows=20_000))
    with pytest.raises(HeaderError, match="8,400,000 bytes of tokens, and at most 8,000,000 are read"):
        read_header(tmp_path / "a.gguf")


def one_field(name, value):
    text = lambda value: struct.pack("<Q", len(value)) + value  # noqa: E731
    return text(name) + struct.pack("<I", 8) + text(value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([one_field(b"general.description", b"a" * 1_000_001)], "1,000,001 bytes in the texts of its fields, and at"),
        ([one_field(b"tokenizer.chat_template", b"a" * 1_000_001)], "1,000,001 bytes in the texts of its fields"),
        ([one_field(b"a%d" % number, b"a" * 300_000) for number in range(4)], "1,200,000 bytes in the texts of its"),
        ([one_field(b"a" * 201, b"a")], "201 bytes in a name, and at most 200"),
        ([one_field(b"general.architecture", b"a" * 201)], "201 bytes in a name, and at most 200"),
        ([one_field(b"tokenizer.chat_template", b"a" * 900_000), one_field(b"a" * 200, b"")], None),
    ],
)
def test_texts_outside_of_lists_have_a_length(tmp_path, fields, said):
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(fields)) + b"".join(fields))
    with pytest.raises(HeaderError, match=said) if said else nullcontext():
        read_header(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("count", "size", "length", "said"),
    [
        (1_200, 10**5, 4, "1,200 tensors, and at most 1,1.. are read"),
        (10_001, 10**8, 4, "10,001 tensors, and at most 10,000 are read"),
        (1, 10**4, 201, "201 bytes in a name, and at most 200 are read"),
        (2_000, 3 * 10**6, 200, None),
    ],
)
def test_a_gguf_file_has_as_many_tensors_as_its_size_allows(tmp_path, count, size, length, said):
    name = struct.pack("<Q", length) + b"a" * length
    with (tmp_path / "a.gguf").open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, count, 0))
        file.write(b"".join(name + struct.pack("<IQIQ", 1, 1, 0, 4 * number) for number in range(count)))
        file.truncate(max(size, file.tell()))
    with pytest.raises(HeaderError, match=said) if said else nullcontext():
        assert read_header(tmp_path / "a.gguf").tensors == count


def of_tensors(*tensors, alignment=None):
    """A GGUF file of tensors of one dimension, each of so many numbers of a type at a byte of 1,024."""
    field = struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<II", 4, alignment or 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), alignment is not None) + field * (alignment is not None)
    for number, (numbers, kind, at) in enumerate(tensors):
        head += struct.pack("<Q", 1) + b"%d" % number + struct.pack("<IQIQ", 1, numbers, kind, at)
    return head + bytes(-len(head) % (alignment or 32) + 1024)


@pytest.mark.parametrize(
    ("tensors", "alignment", "said"),
    [
        ([(128, 0, 512), (128, 0, 0)], None, None),
        ([(128, 0, 512), (128, 0, 0)], 512, None),
        ([(128, 0, 0), (128, 0, 508)], None, "its tensors '0' and '1' lie over each other"),
        ([(128, 0, 508), (128, 0, 0)], None, "its tensors '1' and '0' lie over each other"),
        ([(256, 19, 0), (256, 19, 49)], None, "lie over each other"),  # fifty bytes each
        ([(256, 19, 0), (256, 19, 50)], None, None),
        ([(257, 0, 0)], None, "its tensor '0' ends 4 bytes after the file"),
        ([(256, 0, 4)], 64, "its tensor '0' ends 4 bytes after the file"),
        ([(3, 77, 0), (128, 0, 0)], None, None),  # of a type that is not known
    ],
)
def test_each_tensor_of_a_gguf_file_has_a_place_of_its_own(tmp_path, tensors, alignment, said):
    (tmp_path / "a.gguf").write_bytes(of_tensors(*tensors, alignment=alignment))
    with pytest.raises(HeaderError, match=said) if said else nullcontext():
        assert read_header(tmp_path / "a.gguf").unread == {kind for _, kind, _ in tensors if kind == 77}


def test_the_size_of_every_type_that_is_dequantised_is_known():
    kinds = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, *quants._type_traits}
    assert {kind: GGML_QUANT_SIZES[kind] for kind in kinds} == BLOCKS


def test_a_table_of_all_names_is_not_made_for_each_part_of_a_model(tiny_llama, tmp_path, monkeypatch):
    """It takes a hundredth of a second for thirty blocks, which have four hundred parts."""
    file, theirs, made = write(tmp_path / "tiny.gguf", tiny_llama), gguf.get_tensor_name_map, []
    monkeypatch.setattr("gguf.get_tensor_name_map", lambda *given: made.append(given) or theirs(*given))
    described(file, tmp_path, read_header(file), "tiny.gguf")
    assert len(made) == 3  # the model's, and that of its two parts
