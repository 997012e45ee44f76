"""CLIP's byte pair encoding: texts as numbers of tokens, as open_clip's tokenizer gives them.

The vocabulary follows from 48,894 merges, which CLIP's repositories hold beside the weights, in
`tokenizer.json` or `merges.txt`. Texts are mended by ftfy before, as in CLIP's training.

    tokenizer = read_tokenizer(Path("tokenizer.json"))
    tokens, ends = tokenizer(["a photo of a cat"])
"""

from __future__ import annotations

import gzip
import html
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import MissingDependencyError, WeightsFileError

__all__ = ["LENGTH", "VOCABULARY_FILES", "Tokenizer", "read_tokenizer"]

LENGTH = 77  # positions of every published text tower
MERGES = 48_894
START, END = "<start_of_text>", "<end_of_text>"
VOCABULARY_FILES = ("tokenizer.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz")
"""Files that hold the merges, in order of preference."""

MAX_BYTES = 32 << 20  # of a vocabulary; the published ones have 4 MB at most
WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

Ints = NDArray[np.int64]


class Tokenizer:
    """Turns texts into numbers of tokens.

    Args:
        merges: Pairs of pieces, the most frequent first.

    Raises:
        MissingDependencyError: tokenizers or ftfy is not installed.
    """

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        try:
            import ftfy
            from tokenizers import Regex, models, pre_tokenizers
            from tokenizers import Tokenizer as Encoder
        except ModuleNotFoundError as error:
            what = f"{error.name}, which turns texts into tokens,"
            raise MissingDependencyError(what, "text") from error
        letters = _letters()
        pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
        vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
        self.start, self.end = vocabulary[START], vocabulary[END]
        self._mended = ftfy.fix_text
        self._said = False
        encoder: Any = Encoder(models.BPE(vocabulary, [*merges], end_of_word_suffix="</w>"))
        encoder.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        encoder.add_special_tokens([START, END])
        self._encoder = encoder

    def __call__(self, texts: Sequence[str], length: int = LENGTH) -> tuple[Ints, Ints]:
        """The tokens of texts, and the position of the end of each.

        A text of more tokens than there are positions is cut, which is logged once.

        Args:
            texts: The texts.
            length: Number of positions of the tower.

        Returns:
            `[texts, length of the longest]`, filled up with 0, and `[texts]`.
        """
        lists = [each.ids for each in self._encoder.encode_batch([*map(self._clean, texts)])]
        kept = [[self.start, *tokens[: length - 2], self.end] for tokens in lists]
        cut = next((n for n, tokens in enumerate(lists) if len(tokens) > length - 2), None)
        if cut is not None and not self._said:
            self._said = True
            logging.getLogger("convnext.text").warning(
                "A text is longer than the %d tokens that the model reads, and what follows is "
                "ignored, here and in all other such texts: %.60s...",
                length,
                texts[cut],
            )
        found = np.zeros((len(kept), max(map(len, kept), default=0)), np.int64)
        for row, tokens in zip(found, kept, strict=True):
            row[: len(tokens)] = tokens
        # The first of the highest numbers, as in CLIP: a text may hold an end of its own.
        ends = found.argmax(1) if kept else np.zeros(0, np.int64)
        return found, ends

    def _clean(self, text: str) -> str:
        mended = html.unescape(html.unescape(self._mended(text)))
        return " ".join(mended.split()).lower()


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a vocabulary, one of `VOCABULARY_FILES`.

    Raises:
        WeightsFileError: The file is damaged, or its vocabulary is not CLIP's.
        MissingDependencyError: tokenizers or ftfy is not installed.
    """
    try:
        merges = _merges(path)
    except (OSError, ValueError, LookupError, TypeError, EOFError, RecursionError) as error:
        raise WeightsFileError(f"The vocabulary {path} cannot be read: {error}.") from error
    if len(merges) != MERGES or any(len(pair) != 2 for pair in merges):
        raise WeightsFileError(
            f"{path} holds another vocabulary than CLIP's, whose {MERGES:,} merges its text tower "
            "was trained with. Take the file from the repository of the weights."
        )
    try:
        return Tokenizer(merges)
    except (ValueError, KeyError) as error:  # tokenizers', for pieces that do not follow
        raise WeightsFileError(f"The vocabulary {path} is damaged: {error}.") from error


def _merges(path: Path) -> list[Any]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is too large for one")
    if path.suffix == ".json":
        stored = json.loads(path.read_text("utf-8"))["model"]["merges"]
        return [tuple(each.split(" ") if isinstance(each, str) else each) for each in stored]
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            text = stream.read(MAX_BYTES).decode()
    else:
        text = path.read_text("utf-8")
    # A line of the version, then the merges; OpenAI's file goes on with those it did not use.
    return [tuple(line.split()) for line in text.split("\n")[1 : 1 + MERGES] if line]


def _letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [*map(chr, shown), *(chr(256 + number) for number in range(len(hidden)))]
