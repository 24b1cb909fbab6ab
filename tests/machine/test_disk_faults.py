"""What a disk refuses is Python's own error, whatever a package makes of it."""

import errno

import pytest

from wanda_core.machine.disk_faults import disk_error, disk_faults_told


def raised(error):
    with disk_faults_told():
        raise error


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("No space left on device (os error 28)", errno.ENOSPC),
        ("cannot write: Permission denied (os error 13)", errno.EACCES),
        ('I/O error: No space left on device (os error 28) at path "/a (1)/\\"b\\"/model.safetensors"', errno.ENOSPC),
        ("[Errno 28] No space left on device: '/tmp/x'", errno.ENOSPC),
        ("unknown variant `x (os error 28)`, expected `Left`", None),
        ("no such kind: [Errno 28]", None),
        ("no such kind (os error 28) at path x", None),
        ("No space left on device", None),
        ("os error 28", None),
        ("", None),
    ],
)
def test_the_error_that_another_packages_words_are_about(said, number):
    found = disk_error(said)
    assert (found and found.errno) == number
    with pytest.raises(Exception) as error:  # noqa: PT011 - which is what is tested
        raised(Exception(said))
    assert isinstance(error.value, OSError) == (number is not None)


def test_others_stay_what_they_are():
    with pytest.raises(KeyError):
        raised(KeyError("a"))
    with pytest.raises(OSError, match="it said") as error:
        raised(own := OSError(errno.EIO, "it said (os error 5)"))
    assert error.value is own
