"""Exercises of lesson 02: scaled attention with heads, the encoder block, and the class token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minimllm.layers.blocks import EncoderBlock

from . import Exercise, Mistake

Layer = Callable[[Tensor], Tensor]

# ---- attention --------------------------------------------------------------------------------------------------------


def attention_cases() -> list[tuple[Tensor, Tensor, Tensor, int]]:
    generator = torch.Generator().manual_seed(1)

    def case(batch: int, length: int, dim: int, heads: int) -> tuple[Tensor, Tensor, Tensor, int]:
        queries, keys, values = 2 * torch.randn(3, batch, length, dim, generator=generator)
        return queries, keys, values, heads

    return [case(2, 5, 12, 3), case(1, 4, 8, 2)]


def _split(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "b length (heads d) -> b heads length d", heads=heads)


def _join(x: Tensor) -> Tensor:
    return rearrange(x, "b heads length d -> b length (heads d)")


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _join(F.scaled_dot_product_attention(_split(queries, heads), _split(keys, heads), _split(values, heads)))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, scale: float, dim: int = -1) -> Tensor:
    queries, keys, values = (_split(x, heads) for x in (queries, keys, values))
    return _join((queries @ keys.transpose(-1, -2) * scale).softmax(dim) @ values)


def no_scale(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, 1.0)


def scale_by_whole_width(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, queries.shape[-1] ** -0.5)


def scale_without_root(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, heads / queries.shape[-1])


def scale_upside_down(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, (queries.shape[-1] / heads) ** 0.5)


def scale_after_softmax(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return no_scale(queries, keys, values, heads) * (queries.shape[-1] / heads) ** -0.5


def softmax_over_queries(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, (queries.shape[-1] / heads) ** -0.5, dim=-2)


def softmax_over_heads(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return _attend(queries, keys, values, heads, (queries.shape[-1] / heads) ** -0.5, dim=1)


def no_softmax(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    queries, keys, values = (_split(x, heads) for x in (queries, keys, values))
    return _join(queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5 @ values)


def a_single_head(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return attend(queries, keys, values, 1)


def heads_cut_from_the_sequence(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    split = (x.reshape(len(x), heads, x.shape[1], -1) for x in (queries, keys, values))
    return _join(F.scaled_dot_product_attention(*split))


def heads_joined_without_moving(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    mixed = F.scaled_dot_product_attention(_split(queries, heads), _split(keys, heads), _split(values, heads))
    return mixed.reshape(queries.shape)


def heads_interleaved(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    mixed = F.scaled_dot_product_attention(_split(queries, heads), _split(keys, heads), _split(values, heads))
    return rearrange(mixed, "b heads length d -> b length (d heads)")


def queries_exchanged_with_keys(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    return attend(keys, queries, values, heads)


ATTENTION = Exercise(
    reference=attend,
    cases=attention_cases,
    batched=(0, 1, 2),
    mistakes=(
        Mistake(
            no_scale,
            "The scores are not scaled. Without the division by √head_dim they grow with the width, and the softmax puts nearly all of "
            "its weight on one key.",
        ),
        Mistake(
            scale_by_whole_width,
            "Divided by √dim. The dot product runs over the numbers of one head only, so the divisor is √head_dim = √(dim // heads).",
        ),
        Mistake(scale_without_root, "Divided by head_dim itself. It is the standard deviation that grows, so divide by its square root."),
        Mistake(scale_upside_down, "Multiplied by √head_dim where it should be divided: the weights come out far too sharp."),
        Mistake(
            scale_after_softmax,
            "Everything is smaller by √head_dim: the scale came after the softmax. It belongs to the scores; afterwards each row of "
            "weights must sum to 1, and stay so.",
        ),
        Mistake(
            softmax_over_queries,
            "The softmax runs over the queries (dim=-2), so the columns of weights sum to 1. Each query shares out its attention among "
            "the keys: rows must, dim=-1.",
        ),
        Mistake(softmax_over_heads, "The softmax runs over the heads (dim=1). Each head has its own softmax, over the keys: dim=-1."),
        Mistake(no_softmax, "There is no softmax: the raw scores multiply the values. Weights must be positive, and each row sum to 1."),
        Mistake(
            a_single_head,
            "The heads are not split: one softmax over the whole width. Each head takes its own dim // heads numbers of every token and "
            "attends by itself.",
        ),
        Mistake(
            heads_cut_from_the_sequence,
            "A reshape to (batch, heads, length, head_dim) cuts each head out of a few neighbouring tokens. Reshape to (batch, length, "
            "heads, head_dim) first, then transpose axes 1 and 2.",
        ),
        Mistake(
            heads_joined_without_moving,
            "Right up to the last step: the result was reshaped from (batch, heads, length, head_dim) without moving heads back beside "
            "head_dim, so tokens and heads are mixed up. Transpose axes 1 and 2 first.",
        ),
        Mistake(
            heads_interleaved,
            "The right numbers, but the heads are interleaved: first number of every head, second number of every head … Each head's "
            "numbers stay together: (heads, head_dim), in that order.",
        ),
        Mistake(
            queries_exchanged_with_keys,
            "Queries and keys are exchanged. A row of the scores belongs to one query: queries @ keys transposed.",
        ),
    ),
    afterthought="Something to think of: what does this function return if all keys are equal?",
)

# ---- the block --------------------------------------------------------------------------------------------------------


def block_cases() -> list[tuple[Tensor, nn.Module, nn.Module, nn.Module, nn.Module]]:
    def case(batch: int, length: int, dim: int, heads: int, seed: int) -> tuple[Tensor, nn.Module, nn.Module, nn.Module, nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = EncoderBlock(dim, heads, 2 * dim)
            for parameter in block.parameters():
                nn.init.normal_(parameter, std=0.7)
            for norm in (block.attention_norm, block.mlp_norm):
                nn.init.uniform_(norm.weight, 0.5, 2.0)
            x = 2 * torch.randn(batch, length, dim) + 1
        return x, block.attention, block.mlp, block.attention_norm, block.mlp_norm

    return [case(2, 3, 8, 2, seed=2), case(1, 4, 6, 3, seed=3)]


def encoder_block(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = x + attention(attention_norm(x))
    return x + mlp(mlp_norm(x))


def post_norm(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = attention_norm(x + attention(x))
    return mlp_norm(x + mlp(x))


def no_norm(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = x + attention(x)
    return x + mlp(x)


def no_residual(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return mlp(mlp_norm(attention(attention_norm(x))))


def no_residual_around_attention(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = attention(attention_norm(x))
    return x + mlp(mlp_norm(x))


def no_residual_around_mlp(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return mlp(mlp_norm(x + attention(attention_norm(x))))


def residual_from_the_normed(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = attention_norm(x)
    x = x + attention(x)
    x = mlp_norm(x)
    return x + mlp(x)


def second_residual_from_the_normed(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = mlp_norm(x + attention(attention_norm(x)))
    return x + mlp(x)


def one_norm_for_both(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return encoder_block(x, attention, mlp, attention_norm, attention_norm)


def norms_exchanged(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return encoder_block(x, attention, mlp, mlp_norm, attention_norm)


def mlp_not_normed(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = x + attention(attention_norm(x))
    return x + mlp(x)


def in_parallel(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return x + attention(attention_norm(x)) + mlp(mlp_norm(x))


def forgets_what_attention_wrote(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    return x + mlp(mlp_norm(x + attention(attention_norm(x))))


def mlp_before_attention(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer) -> Tensor:
    x = x + mlp(mlp_norm(x))
    return x + attention(attention_norm(x))


BLOCK = Exercise(
    reference=encoder_block,
    cases=block_cases,
    batched=(0,),
    mistakes=(
        Mistake(
            post_norm,
            "This is BERT's block, post-norm: the norm comes after the sum, on the stream itself. In a ViT it comes before the layer, on "
            "the layer's input: x + attention(attention_norm(x)).",
        ),
        Mistake(no_norm, "There is no norm: each layer should read the normalised stream, attention_norm(x) and mlp_norm(x)."),
        Mistake(
            no_residual,
            "Nothing is added: each layer replaces the stream instead of writing into it, so what came in is lost. x + … both times.",
        ),
        Mistake(
            no_residual_around_attention,
            "The MLP's result is added to the stream, but attention's result replaces it. x + … there, too.",
        ),
        Mistake(no_residual_around_mlp, "Attention's result is added to the stream, but the MLP's result replaces it. x + … there, too."),
        Mistake(
            residual_from_the_normed,
            "The residual is taken from the normalised stream: x = norm(x); x = x + layer(x). Published code has had this very bug. The "
            "norm is for the layer's input only; what is added to must be the stream before the norm.",
        ),
        Mistake(
            second_residual_from_the_normed,
            "The attention half is right. In the MLP half the norm's result was stored in x before the sum, so the residual is taken from"
            " the normalised stream.",
        ),
        Mistake(one_norm_for_both, "attention_norm was used for both. The two norms have weights of their own: the MLP reads mlp_norm(x)."),
        Mistake(norms_exchanged, "The two norms are exchanged: attention reads attention_norm(x), the MLP reads mlp_norm(x)."),
        Mistake(mlp_not_normed, "The MLP reads the stream as it is. Give it mlp_norm(x)."),
        Mistake(
            in_parallel,
            "Attention and MLP both read the x that came in, side by side. (Some models do so.) In a ViT the MLP comes second, and reads "
            "the stream into which attention has already written.",
        ),
        Mistake(
            forgets_what_attention_wrote,
            "The second sum starts from the x that came in, so what attention wrote is lost again. Update x first: x = x + attention(…).",
        ),
        Mistake(mlp_before_attention, "The MLP comes before attention. First look around, then think it over: attention, then MLP."),
    ),
    afterthought="Something to think of: with which weights of attention and MLP does the block change nothing at all?",
)

# ---- the class token --------------------------------------------------------------------------------------------------


def class_token_cases() -> list[tuple[Tensor, Tensor, Tensor, nn.Module, nn.Module]]:
    def case(batch: int, patches: int, dim: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor, nn.Module, nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder, head = EncoderBlock(dim, 2, 2 * dim), nn.Linear(dim, classes)
            return torch.randn(batch, patches, dim), torch.randn(dim), torch.randn(1 + patches, dim), encoder, head

    return [case(3, 4, 8, 5, seed=4), case(1, 6, 6, 3, seed=5)]


def _in_front(patches: Tensor, class_token: Tensor) -> Tensor:
    return torch.cat([class_token.expand(len(patches), 1, -1), patches], dim=1)


def classify(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token) + positions)[:, 0])


def token_appended(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    tokens = torch.cat([patches, class_token.expand(len(patches), 1, -1)], dim=1)
    return head(encoder(tokens + positions)[:, -1])


def token_appended_first_read(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    tokens = torch.cat([patches, class_token.expand(len(patches), 1, -1)], dim=1)
    return head(encoder(tokens + positions)[:, 0])


def mean_of_all(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token) + positions).mean(dim=1))


def mean_of_patches(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token) + positions)[:, 1:].mean(dim=1))


def last_read(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token) + positions)[:, -1])


def positions_before_token(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches + positions[1:], class_token))[:, 0])


def positions_one_off(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches + positions[:-1], class_token))[:, 0])


def no_positions(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token))[:, 0])


def no_class_token(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(patches + positions[1:]).mean(dim=1))


def token_added_at_the_end(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, torch.zeros_like(class_token)) + positions)[:, 0] + class_token)


def not_encoded(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head((_in_front(patches, class_token) + positions)[:, 0])


def every_token_classified(patches: Tensor, class_token: Tensor, positions: Tensor, encoder: Layer, head: Layer) -> Tensor:
    return head(encoder(_in_front(patches, class_token) + positions))


CLASS_TOKEN = Exercise(
    reference=classify,
    cases=class_token_cases,
    batched=(0,),
    mistakes=(
        Mistake(
            token_appended,
            "The class token stands last. It comes first, and so does its row of the position table: appended, every patch gets the "
            "position of its neighbour.",
        ),
        Mistake(
            token_appended_first_read,
            "The class token was appended at the end, but the first token is read, which is now a patch. Put it in front: "
            "torch.cat([class token, patches]).",
        ),
        Mistake(mean_of_all, "The head reads the mean of all tokens. Many good models do so; here it reads the class token alone: [:, 0]."),
        Mistake(
            mean_of_patches,
            "The head reads the mean of the patches, and the class token is computed for nothing. Here it reads the class token alone: "
            "[:, 0].",
        ),
        Mistake(last_read, "The head reads the last token, which is the bottom right patch. The class token is the first: [:, 0]."),
        Mistake(
            positions_before_token,
            "The positions were added before the class token was put in front, so it has none. The table's first row is its own: first "
            "torch.cat, then + positions.",
        ),
        Mistake(
            positions_one_off,
            "Every patch got the position of the place before it: the table's first row, which belongs to the class token, went to the "
            "first patch. First torch.cat, then + positions.",
        ),
        Mistake(no_positions, "The positions were not added: the model would not know where a patch was."),
        Mistake(no_class_token, "There is no class token: the mean of the patches is read. Put the token in front, and read it: [:, 0]."),
        Mistake(
            token_added_at_the_end,
            "The class token was added after the encoder. It must go through the encoder to look at the patches: it is its vector that "
            "says, as a query, what to look for.",
        ),
        Mistake(
            not_encoded,
            "The encoder is missing: the class token has not looked at a single patch, so every picture gets the same logits.",
        ),
        Mistake(
            every_token_classified,
            "There is a row of logits for every token. Only the class token goes to the head: take [:, 0] of what the encoder returns.",
        ),
    ),
    afterthought="Something to think of: the class token is the same for every picture. When do two pictures' class tokens first differ?",
)

EXERCISES = {"attend": ATTENTION, "encoder_block": BLOCK, "classify": CLASS_TOKEN}
