"""Texts to token ids and back, a token a word: the ``tokenizers`` library over a closed vocabulary."""

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from torch import Tensor

PAD, START, IMAGE, END, UNKNOWN = SPECIAL_TOKENS = ("<pad>", "<start>", "<|image|>", "<end>", "<unknown>")
"""Ids 0 to 4. ``<|image|>`` is kept for the later lessons; ``<unknown>`` is never given out, it is how an unknown word is found. The end
token is not number 2, because a CLIP text encoder takes that id as the sign of an old config (see ``minimllm.models.text_encoder``)."""

STRICT, LENIENT = "longest_first", "only_first"


class Tokenizer:
    """``tokenizer(texts)`` -> ``(ids, mask)``. Make one with :meth:`from_words` or :meth:`from_texts`, or :meth:`load` it.

    Args:
        backend: what splits and looks up, with a word-level model and the special tokens.
        context_length: longest text in tokens, start and end token included.
        lenient: leave out words that are not known, and cut longer texts before their end token, in place of an error: for texts that
            nobody has looked through.
    """

    def __init__(self, backend: tokenizers.Tokenizer, context_length: int = 77, lenient: bool = False):
        missing = [token for token in SPECIAL_TOKENS if backend.token_to_id(token) is None]
        if missing or not isinstance(backend.model, WordLevel):
            raise ValueError(
                f"expected a word-level tokenizer with the tokens {', '.join(SPECIAL_TOKENS)}; it lacks {missing or 'the words'}"
            )
        if context_length < 2:
            raise ValueError(f"context_length must leave room for the start and the end token, got {context_length}")
        self._backend, self.context_length, self.lenient = backend, context_length, lenient
        self.pad_token_id, self.start_token_id, self.image_token_id, self.eos_token_id, self._unknown = map(
            backend.token_to_id, SPECIAL_TOKENS
        )

    @classmethod
    def from_words(cls, words: Iterable[str], context_length: int = 77) -> "Tokenizer":
        """A vocabulary of these words, in their order, behind the special tokens. Punctuation marks are words."""
        words = (unicodedata.normalize("NFC", word).lower() for word in words)  # an accent may be a character of its own, or not
        vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *words]))}
        backend = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
        backend.decoder = decoders.WordPiece(cleanup=True)  # joins by spaces, none before punctuation
        backend.add_special_tokens(list(SPECIAL_TOKENS))
        backend.post_processor = TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
        )
        return cls(backend, context_length)

    @classmethod
    def from_texts(cls, texts: Iterable[str], context_length: int = 77, lenient: bool = False) -> "Tokenizer":
        """A vocabulary of all words of these texts, in alphabetical order."""
        split = cls.from_words([])._backend
        words = (word for text in texts for word, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(text)))
        return cls(cls.from_words(sorted(set(words)))._backend, context_length, lenient)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special tokens included."""
        return self._backend.get_vocab_size()

    @property
    def words(self) -> list[str]:
        """Every token by its id."""
        return [self._backend.id_to_token(number) for number in range(self.vocab_size)]

    def __call__(
        self, texts: str | Sequence[str], *, start: bool = True, end: bool = True
    ) -> tuple[Int[Tensor, "texts length"], Bool[Tensor, "texts length"]]:
        """Token ids, padded behind to the longest text, and a mask that is True on all but the padding.

        Args:
            texts: the texts; one text alone is a batch of one.
            start, end: whether to put the start token before and the end token behind each text.

        Raises:
            ValueError: an unknown word (the message names it, and known ones that are spelled alike), a text longer than
                ``context_length``, unless ``lenient``; no texts.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"expected a list of texts, at least one; got {texts[:3]!r}")
        rows = []
        for text, encoding in zip(texts, self._backend.encode_batch(texts, add_special_tokens=False), strict=True):
            if self.lenient:
                known = [number for number in encoding.ids if number != self._unknown][: self.context_length - start - end]
                rows.append([self.start_token_id] * start + known + [self.eos_token_id] * end)
                continue
            if self._unknown in encoding.ids:
                begin, stop = encoding.offsets[encoding.ids.index(self._unknown)]
                raise ValueError(self._describe_unknown(text[begin:stop], text))
            row = [self.start_token_id] * start + encoding.ids + [self.eos_token_id] * end
            if len(row) > self.context_length:
                shown = text if len(text) < 100 else text[:97] + "..."
                raise ValueError(f"{shown!r} makes {len(row)} tokens, and at most {self.context_length} are allowed; shorten it")
            rows.append(row)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.pad_token_id] * (longest - len(row)) for row in rows], dtype=torch.long)
        return ids.view(len(rows), longest), torch.arange(longest) < torch.tensor([[len(row)] for row in rows])

    def decode(self, ids: Int[Tensor, "texts length"]) -> list[str]:
        """The texts of a batch of ids, without the special tokens."""
        return self._backend.decode_batch(ids.tolist(), skip_special_tokens=True)

    def _describe_unknown(self, word: str, text: str) -> str:
        known = [token for token in self.words if token not in SPECIAL_TOKENS]
        near = difflib.get_close_matches(word.lower(), known, n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it knows {', '.join(known[:40])}{' …' * (len(known) > 40)}"
        return f"this tokenizer does not know the word {word!r} of {text!r}; {hint}"

    def save(self, path: str | os.PathLike) -> None:
        """Write ``tokenizer.json``, which ``PreTrainedTokenizerFast(tokenizer_file=...)`` of transformers opens too."""
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        # Where the format keeps the length; there a longer text is cut. The strategies are one for single texts, and tell us what we are.
        copy.enable_truncation(self.context_length, strategy=LENIENT if self.lenient else STRICT)
        copy.enable_padding(pad_id=self.pad_token_id, pad_token=PAD)
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.unfinished")
        copy.save(str(unfinished))
        os.replace(unfinished, path)

    def transformers_config(self) -> dict[str, str | int]:
        """What ``tokenizer_config.json`` says beside ``tokenizer.json``, so that ``AutoTokenizer`` of transformers opens a folder."""
        named = dict(pad_token=PAD, bos_token=START, eos_token=END, unk_token=UNKNOWN, image_token=IMAGE)
        return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.context_length, **named}

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: naming the file, if it is missing, damaged or of another kind.
        """
        if not Path(path).is_file():
            raise ValueError(f"there is no tokenizer file {str(path)!r}")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
            length = backend.truncation["max_length"] if backend.truncation else 77
            lenient = backend.truncation is not None and backend.truncation["strategy"] == LENIENT
            backend.no_truncation()
            backend.no_padding()
            return cls(backend, length, lenient)
        except Exception as error:  # the library raises plain Exceptions
            raise ValueError(f"{str(path)!r} is no tokenizer file of ours: {error}") from error
