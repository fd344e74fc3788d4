"""The chat widget: what is sent, what is shown while an answer is written and after it, and what a reader without a kernel sees."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from minimllm import widgets

WORDS = ["<unk>", "<end>", "system", "user", "assistant", ":", "hello", "<b>", "there", "who", "are", "you", "be", "brief"]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' <end> ' }}{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"


def tokenizer():
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")
    made.chat_template = TEMPLATE
    return made


class Scripted(torch.nn.Module):
    """Writes the same words whatever it reads; notes what it read, and calls ``each`` before every word."""

    image_token_id = None

    def __init__(self, script="hello <b> there <end>", each=lambda: None):
        super().__init__()
        self.weight, self.read, self.each = torch.nn.Parameter(torch.zeros(1)), [], each
        self.script = [WORDS.index(word) for word in script.split()]
        self.config = SimpleNamespace(context_length=200, eos_token_id=1, pad_token_id=None)

    def new_cache(self):
        return SimpleNamespace(length=0)

    def forward(self, ids, mask=None, cache=None):
        if cache.length == 0:
            self.read.append(" ".join(WORDS[number] for number in ids[0].tolist()))
        self.each()
        logits = torch.zeros(1, 1, len(WORDS))
        logits[0, 0, self.script[cache.length]] = 9.0
        cache.length += 1
        return logits


def test_answer_appears_as_it_is_written_and_the_conversation_goes_on():
    seen = []
    model = Scripted(each=lambda: seen.append(chat.shown.value))
    chat = widgets.chat(model, tokenizer())
    said = chat.ask("who are you")
    assert said == "hello <b> there"
    growing = [text.partition("model:</b> ")[2].partition("</p>")[0] for text in seen]
    assert growing == ["▌", "hello ▌", "hello &lt;b&gt; ▌", "hello &lt;b&gt; there ▌"]  # what the model writes is shown, not obeyed
    assert "▌" not in chat.shown.value and "hello &lt;b&gt; there</p>" in chat.shown.value
    chat.ask("be brief")
    first = "user : who are you <end> "
    assert model.read == [f"{first}assistant :", f"{first}assistant : hello <b> there <end> user : be brief <end> assistant :"]
    assert [message["role"] for message in chat.messages] == ["user", "assistant"] * 2


def test_system_prompt_and_temperature_count_from_the_next_message_on():
    model = Scripted()
    chat = widgets.chat(model, tokenizer(), system="be brief", temperature=0.5)
    chat.ask("hello")
    assert model.read[-1] == "system : be brief <end> user : hello <end> assistant :"
    assert "be brief" in chat.shown.value and chat.temperature.value == 0.5
    chat.start_over()
    chat.system.value = " "
    chat.ask("hello")
    assert model.read[-1] == "user : hello <end> assistant :"


def send(chat, text=None, event="submit"):
    """As the page does: Enter is told first, then the text, if it changed."""

    async def steps():
        chat.field._handle_custom_msg({"event": event}, [])
        if text is not None:
            chat.field.value = text
        await asyncio.sleep(0.4)

    asyncio.run(steps())


def test_enter_and_button_send_and_leaving_the_field_does_not():
    model = Scripted()
    chat = widgets.chat(model, tokenizer())
    chat.field.value = "hello"  # typed, and the field left
    assert model.read == [] and chat.messages == []
    chat.button.click()
    assert [message["content"] for message in chat.messages] == ["hello", "hello <b> there"] and chat.field.value == ""
    chat.start_over()
    send(chat, "who are you")
    assert chat.messages[0]["content"] == "who are you" and len(model.read) == 2
    chat.start_over()
    chat.field.value = "be brief"
    send(chat)  # Enter on a text that the kernel has already
    assert chat.messages[0]["content"] == "be brief" and len(model.read) == 3
    send(chat)  # Enter on an empty field
    assert len(model.read) == 3


def test_interrupted_answer_is_kept_and_one_that_never_began_is_no_part_of_the_conversation():
    calls = iter(range(10))

    def stop_at(call):
        def each():
            if next(calls) == call:
                raise KeyboardInterrupt

        return each

    chat = widgets.chat(Scripted(each=stop_at(2)), tokenizer())
    assert chat.ask("hello") == "hello <b>" and chat.error == "stopped" and len(chat.messages) == 2
    calls = iter(range(10))
    chat = widgets.chat(Scripted(each=stop_at(0)), tokenizer())
    assert chat.ask("hello") == "" and chat.messages == [] and "stopped" in chat.shown.value


def test_what_the_model_refuses_is_told_and_the_conversation_stays():
    chat = widgets.chat(Scripted(), tokenizer())
    chat.ask("hello")
    chat.ask("hello " * 200)
    assert "200" in chat.error and chat.error in chat.shown.value and len(chat.messages) == 2
    chat.ask("hello")
    assert chat.error == ""


def test_still_conversation_for_readers_without_a_kernel():
    chat = widgets.chat(Scripted(), tokenizer(), max_new_tokens=7)
    assert chat._repr_mimebundle_()["text/plain"] == "Chat: nothing said yet"
    chat.ask("who are you")
    bundle = chat._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= bundle.keys()
    assert "<b>you:</b> who are you" in bundle["text/html"] and "hello &lt;b&gt; there" in bundle["text/html"]
    assert "Temperature 0, at most 7 tokens" in bundle["text/html"]
    assert bundle["text/plain"] == "Chat: you: who are you; model: hello <b> there"


def test_tokenizer_without_template_is_refused():
    bare = tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        widgets.chat(Scripted(), bare)
