"""Talking with a model: messages become one text by the tokenizer's own template, and the model goes on where the reply begins."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minimllm.inference.answering import Pictures, as_list, picture_inputs
from minimllm.inference.generation import check_language_model, end_tokens, generate

Messages = Sequence[Mapping[str, Any]]
PROBE = "probe"


@torch.no_grad()
def chat(
    model: nn.Module,
    tokenizer: Any,
    messages: Messages,
    images: Pictures | Sequence[Tensor] | None = None,
    max_new_tokens: int = 200,
    on_text: Callable[[str], None] | None = None,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> str:
    """What the model replies to a conversation.

    The prompt is that of ``apply_chat_template`` of transformers, with one start token. Writing ends at any end token that there is: of the
    model's config, of the tokenizer, or what its template writes behind a reply. Where the last message is the assistant's, the reply goes
    on with it (``continue_final_message``), and the space that may come first is kept.

    Args:
        model: a language model of the course, with or without pictures.
        tokenizer: the model's own, of transformers, with a chat template.
        messages: ``{"role": "system", "user" or "assistant", "content": ...}`` each, the content a text, or a list of
            ``{"type": "text", "text": ...}`` and ``{"type": "image"}``.
        images: one picture for each ``{"type": "image"}``, in their order: Pillow pictures, or floats in [0, 1]; the model prepares them.
        max_new_tokens: longest reply, its end token included; the model needs positions for the prompt and for all of these.
        on_text: is given each new piece of the reply; the pieces joined are the reply. A character of several tokens comes whole.
        temperature, top_k, top_p, seed: as of :func:`~minimllm.inference.generation.generate`.

    Returns:
        The reply, without special tokens and the space around it. Bytes that are no text, as of a character that was cut off, are left out.

    Raises:
        ValueError: a tokenizer without a template, no message of the user's, a message of another form, one that the template refuses;
            another number of pictures than of their places, pictures for a model of text alone, a text that spells a picture's token;
            more tokens than the model has positions; and as ``generate``.
    """
    check_language_model(model)
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            f"this {type(tokenizer).__name__} has no chat template; use the tokenizer of a model that was trained to chat, "
            "as AutoTokenizer.from_pretrained opens it"
        )
    messages = [checked(message) for message in messages] if isinstance(messages, Sequence) and not isinstance(messages, str) else None
    if not messages or not any(message["role"] == "user" for message in messages):
        raise ValueError("expected a list of messages, one of them the user's: [{'role': 'user', 'content': 'Hello'}]")
    text, pictures = written_out(model, tokenizer, messages, as_list(images))
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt", verbose=False)["input_ids"]
    if model.image_token_id is not None and starts_texts(tokenizer) and ids[0, 0] != tokenizer.bos_token_id:
        ids = torch.cat([ids.new_tensor([[tokenizer.bos_token_id]]), ids], dim=1)  # as the processors of transformers do

    ends = sorted({*end_tokens(model, tokenizer), *turn_ends(tokenizer)})
    reply = Reply(tokenizer, ends, on_text, goes_on=messages[-1]["role"] == "assistant")
    sampling = dict(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    was_training = model.training
    model.eval()
    try:
        ids = ids.to(next(model.parameters()).device)
        generate(model, ids, max_new_tokens, eos_token_id=ends, on_token=reply.add, **sampling, **pictures)
    finally:
        model.train(was_training)
    return reply.text


def checked(message: Any) -> dict[str, Any]:
    """A message as a role and a list of parts; a ``ValueError`` if it is none."""
    content = message.get("content") if isinstance(message, Mapping) else None
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    well = isinstance(parts, Sequence) and all(
        isinstance(part, Mapping) and (part.get("type") == "image" or part.get("type") == "text" and isinstance(part.get("text"), str))
        for part in parts
    )
    if not well or not isinstance(message.get("role"), str):
        raise ValueError(
            "a message is {'role': 'user', 'content': ...}, the content a text or a list of {'type': 'text', 'text': ...} and "
            f"{{'type': 'image'}}; got {message!r}"
        )
    return {"role": message["role"], "content": [dict(part) for part in parts]}


def written_out(model: nn.Module, tokenizer: Any, messages: list[dict[str, Any]], images: Any) -> tuple[str, dict[str, Any]]:
    """The conversation as one text, with what stands for each picture, and the pictures as the model's ``forward`` takes them."""
    parts = [part for message in messages for part in message["content"]]
    places, given = sum(part["type"] == "image" for part in parts), 0 if images is None else len(images)
    if model.image_token_id is None and (places or given):
        raise ValueError(f"a {type(model).__name__} reads text alone and got {given} pictures for {places} places in the messages")
    if places != given:
        raise ValueError(f"the messages have {places} places for pictures ({{'type': 'image'}}), and {given} pictures were given")
    if not given:
        return apply_template(tokenizer, messages, continued=True), {}
    token = tokenizer.convert_ids_to_tokens(model.image_token_id)
    if token is None:
        raise ValueError(
            f"the model's image_token_id is {model.image_token_id}, and this {type(tokenizer).__name__} has {len(tokenizer)} tokens: "
            "not its own"
        )
    if spelled := next((part["text"] for part in parts if token in part.get("text", "")), None):
        raise ValueError(f"the text {spelled!r} holds {token!r}, which stands for a picture; write {{'type': 'image'}} in its place")
    text = apply_template(tokenizer, messages, token, continued=True)
    between = text.split(token)
    if len(between) != given + 1:
        raise ValueError(f"the tokenizer's chat template writes {len(between) - 1} image tokens {token!r} for {given} pictures")
    texts, inputs = model_pictures(model, token, images)
    return "".join(piece for pair in zip(between, [*texts, ""], strict=True) for piece in pair), inputs


def model_pictures(model: nn.Module, token: str, images: Any) -> tuple[list[str], dict[str, Any]]:
    """What stands in a text for each picture, and all of them as the ``forward`` of the model takes them, for one row.

    A model whose pictures may differ in this says so itself, by a method ``chat_pictures(images, token)`` that returns both.
    """
    if hasattr(model, "chat_pictures"):
        return model.chat_pictures(images, token)
    return [token * getattr(model, "image_tokens", 1)] * len(images), picture_inputs(model, images, one_row=True)


def apply_template(tokenizer: Any, messages: list[dict[str, Any]], image_token: str | None = None, continued: bool = False) -> str:
    """The text of a conversation by the tokenizer's template, whether it wants a message's content as a text or as parts.

    ``continued``: up to where the reply begins.
    """
    as_text = (
        not takes(tokenizer, [{"type": "image"}, {"type": "text", "text": PROBE}], image_token) if image_token else takes(tokenizer, PROBE)
    )
    if as_text:
        texts = ["".join(part.get("text", image_token) for part in message["content"]) for message in messages]
        messages = [{**message, "content": text} for message, text in zip(messages, texts, strict=True)]
    goes_on = continued and messages[-1]["role"] == "assistant"
    if goes_on and not (messages[-1]["content"].strip() if as_text else messages[-1]["content"]):
        raise ValueError("the last message is the assistant's and empty; leave it out, and the reply begins there")
    try:
        ways = dict(add_generation_prompt=continued and not goes_on, continue_final_message=goes_on)
        return tokenizer.apply_chat_template(messages, tokenize=False, **ways)
    except Exception as error:  # a template is a small program, and raises what it likes
        raise ValueError(f"the tokenizer's chat template refuses this conversation: {error}") from error


def takes(tokenizer: Any, content: Any, image_token: str | None = None) -> bool:
    """Whether the template writes such a content: some know texts alone, some parts alone, of which some drop a text in silence."""
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    except Exception:  # as above
        return False
    return PROBE in text and "{'type'" not in text and (image_token is None or image_token in text)


def turn_ends(tokenizer: Any) -> list[int]:
    """The token that the template writes behind a reply, if it is one of the special ones: it need not be the tokenizer's end token."""
    asked, replied = ({"role": role, "content": [{"type": "text", "text": PROBE}]} for role in ("user", "assistant"))
    behind = apply_template(tokenizer, [asked, replied]).rpartition(PROBE)[2].strip()
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"][:1] if behind else []
    return [number for number in ids if number in tokenizer.added_tokens_decoder]


def starts_texts(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts its start token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer(PROBE)["input_ids"][0] == tokenizer.bos_token_id


class Reply:
    """A reply that comes token by token, as pieces of text.

    A character may be several tokens: until it is whole, decoding gives the replacement sign, and its tokens wait. They are decoded behind
    an ordinary one, because decoders may drop the space before the first.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int], on_text: Callable[[str], None] | None, goes_on: bool):
        self.tokenizer, self.ends, self.on_text = tokenizer, ends, on_text
        self.text, self.space, self.keeps_space = "", "", goes_on
        self.waiting: list[int] = []
        ordinary = (number for number in range(len(tokenizer)) if number not in tokenizer.all_special_ids)
        self.first = next(
            ([n] for n in ordinary if (token := tokenizer.convert_ids_to_tokens(n)) and token.isascii() and token.isalpha()), []
        )
        self.before = len(self._decode([]))

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode([*self.first, *ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def add(self, column: Tensor) -> None:
        """One more token, ``(1,)``."""
        if (token := int(column[0])) in self.ends:
            return
        self.waiting.append(token)
        piece = self._decode(self.waiting)[self.before :]
        if piece.endswith("\ufffd"):
            return
        self.waiting = []
        piece = self.space + piece.replace("\ufffd", "")
        if not self.text and not self.keeps_space:
            piece = piece.lstrip()
        self.space = piece[len(piece.rstrip()) :]  # waits, because space at the end is no part of the reply
        if piece := piece.rstrip():
            self.text += piece
            if self.on_text is not None:
                self.on_text(piece)
