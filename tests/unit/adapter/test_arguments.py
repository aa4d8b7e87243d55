"""Which names are found in a program's arguments, and what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.adapter.arguments import replace_names

URL = "https://host/x.bam?a=1&b=2"


def marked(argument: str) -> str:
    return replace_names(argument, lambda name: f"<{name}>")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        # All of the argument: a key may have any character.
        (URL, f"<{URL}>"),
        ("s3://bucket/a key, with; (all) of 'them'.bam", "<s3://bucket/a key, with; (all) of 'them'.bam>"),
        ("HTTPS://host/x", "<HTTPS://host/x>"),
        ("https://host/x?u=https://other/y", "<https://host/x?u=https://other/y>"),
        # Behind an option or a key.
        (f"--ref={URL}", f"--ref=<{URL}>"),
        ("--ref=s3://bucket/a key", "--ref=<s3://bucket/a key>"),
        (f"-I{URL}", f"-I<{URL}>"),
        (f"reference={URL}", f"reference=<{URL}>"),
        (f"-o=a={URL}", f"-o=a=<{URL}>"),
        # Behind what says how to read it.
        (f"/vsicurl/{URL}", f"/vsicurl/<{URL}>"),
        ("/vsizip//vsicurl/https://host/x.zip/y", "/vsizip//vsicurl/<https://host/x.zip/y>"),
        ("cache:https://host/x", "cache:<https://host/x>"),
        # Several.
        ("https://host/x##idx##s3://bucket/y", "<https://host/x>##idx##<s3://bucket/y>"),
        ("concat:https://host/x|https://host/y", "concat:<https://host/x>|<https://host/y>"),
        ("--in=https://host/x,y,https://host/z", "--in=<https://host/x,y>,<https://host/z>"),
        # In text.
        ("SELECT * FROM 's3://bucket/a b.parquet' x", "SELECT * FROM '<s3://bucket/a b.parquet>' x"),
        ("read_parquet(['s3://b/x','s3://b/y'])", "read_parquet(['<s3://b/x>','<s3://b/y>'])"),
        ('"https://host/x y" z', '"<https://host/x y>" z'),
        ("samtools view https://host/x.bam|head", "samtools view <https://host/x.bam>|head"),
        ("u=https://host/x; view $u", "u=<https://host/x>; view $u"),
        ("https://host/x https://host/y", "<https://host/x> <https://host/y>"),
        ("diff <(curl https://host/x) y", "diff <(curl <https://host/x>) y"),
        # Nothing.
        ("chr1:100-200", "chr1:100-200"),
        ("x.bam", "x.bam"),
        ("see https://", "see https://"),
        ("file:///x", "file:///x"),
        ("", ""),
    ],
)
def test_names_are_found(argument: str, expected: str) -> None:
    assert marked(argument) == expected


@given(st.text(alphabet="ab:/=' \"|,#-;\n", max_size=40))
def test_everything_else_stays(argument: str) -> None:
    assert replace_names(argument, lambda name: name) == argument
    assert marked(argument).replace("<", "").replace(">", "") == argument
