"""Exercises of lesson 02: scaled attention with heads, the encoder block, and the class token."""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from minimllm.layers.blocks import EncoderBlock

from . import Exercise, Wrong

Layer = Callable[[Tensor], Tensor]

# ---- attention --------------------------------------------------------------------------------------------------------


def attention_cases() -> list[tuple[Tensor, Tensor, Tensor, int]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (*2 * torch.randn(3, batch, length, dim, generator=generator), heads) for batch, length, dim, heads in ((2, 5, 12, 3), (1, 4, 8, 2))
    ]


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    *,
    power: float = -0.5,
    softmax: Callable[[Tensor], Tensor] = lambda scores: scores.softmax(dim=-1),
    join: str = "b heads length d -> b length (heads d)",
) -> Tensor:
    """Attention written out, with what people get wrong as options; without them it is right."""
    queries, keys, values = (rearrange(x, "b length (heads d) -> b heads length d", heads=heads) for x in (queries, keys, values))
    return rearrange(softmax(queries @ keys.mT * queries.shape[-1] ** power) @ values, join)


def cut(heads: int, **given: Tensor) -> dict[str, Tensor]:
    """Arguments whose heads, once split as they should be, are those of ``view(b, heads, length, d)``: runs of neighbouring tokens."""
    return {
        name: rearrange(x.reshape(len(x), heads, x.shape[1], -1), "b heads length d -> b length (heads d)") for name, x in given.items()
    }


ATTENTION = Exercise(
    reference=attend,
    cases=attention_cases,
    batched=(0, 1, 2),
    mistakes=dict(
        no_scale=Wrong(partial(attend, power=0.0)).hint("""
            The scores are not scaled. Without the division by √head_dim they grow with the width, and the softmax puts nearly all of its
            weight on one key."""),
        scale_by_whole_width=Wrong(lambda again, queries, heads: again(queries=queries * heads**-0.5)).hint("""
            Divided by √dim. The dot product runs over the numbers of one head only, so the divisor is √head_dim = √(dim // heads)."""),
        scale_without_root=Wrong(partial(attend, power=-1.0)).hint("""
            Divided by head_dim itself. It is the standard deviation that grows, so divide by its square root."""),
        scale_upside_down=Wrong(partial(attend, power=0.5)).hint("""
            Multiplied by √head_dim where it should be divided: the weights come out far too sharp."""),
        scale_after_softmax=Wrong(lambda queries, again, heads: again(power=0.0) * (queries.shape[-1] / heads) ** -0.5).hint("""
            Everything is smaller by √head_dim: the scale came after the softmax. It belongs to the scores; afterwards each row of weights
            must sum to 1, and stay so."""),
        softmax_over_queries=Wrong(partial(attend, softmax=lambda scores: scores.softmax(dim=-2))).hint("""
            The softmax runs over the queries (dim=-2), so the columns of weights sum to 1. Each query shares out its attention among the
            keys: rows must, dim=-1."""),
        softmax_over_heads=Wrong(partial(attend, softmax=lambda scores: scores.softmax(dim=1))).hint("""
            The softmax runs over the heads (dim=1). Each head has its own softmax, over the keys: dim=-1."""),
        no_softmax=Wrong(
            partial(attend, softmax=lambda scores: scores),
            no_softmax_no_scale=partial(attend, softmax=lambda scores: scores, power=0.0),
        ).hint("There is no softmax: the raw scores multiply the values. Weights must be positive, and each row sum to 1."),
        a_single_head=Wrong(lambda again: again(heads=1)).hint("""
            The heads are not split: one softmax over the whole width. Each head takes its own dim // heads numbers of every token and
            attends by itself."""),
        heads_cut_from_the_sequence=Wrong(
            lambda again, queries, keys, values, heads: again(**cut(heads, queries=queries, keys=keys, values=values)),
            heads_cut_and_joined_alike=lambda again, queries, keys, values, heads: again(
                **cut(heads, queries=queries, keys=keys, values=values), join="b heads length d -> b heads length d"
            ).reshape(queries.shape),
        ).hint("""A reshape to (batch, heads, length, head_dim) cuts each head out of a few neighbouring tokens. Reshape to (batch, length,
            heads, head_dim) first, then transpose axes 1 and 2."""),
        heads_joined_without_moving=Wrong(
            lambda again, queries: again(join="b heads length d -> b heads length d").reshape(queries.shape)
        ).hint("""
            Right up to the last step: the result was reshaped from (batch, heads, length, head_dim) without moving heads back beside
            head_dim, so tokens and heads are mixed up. Transpose axes 1 and 2 first."""),
        heads_interleaved=Wrong(partial(attend, join="b heads length d -> b length (d heads)")).hint("""
            The right numbers, but the heads are interleaved: first number of every head, second number of every head … Each head's numbers
            stay together: (heads, head_dim), in that order."""),
        queries_exchanged_with_keys=Wrong(lambda again, queries, keys: again(queries=keys, keys=queries)).hint("""
            Queries and keys are exchanged. A row of the scores belongs to one query: queries @ keys transposed."""),
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
            return 2 * torch.randn(batch, length, dim) + 1, block.attention, block.mlp, block.attention_norm, block.mlp_norm

    return [case(2, 3, 8, 2, seed=2), case(1, 4, 6, 3, seed=3)]


def after(x: Tensor, layer: Layer) -> Tensor:
    """The stream with what a layer adds to it."""
    return x + layer(x)


def in_turn(x: Tensor, first: Layer, second: Layer) -> Tensor:
    return after(after(x, first), second)


def encoder_block(x: Tensor, attention: Layer, mlp: Layer, attention_norm: Layer, mlp_norm: Layer, *, put=in_turn) -> Tensor:
    """``put`` puts the stream and the two layers together, each with its norm before it: attention looks, the MLP thinks."""
    return put(x, lambda x: attention(attention_norm(x)), lambda x: mlp(mlp_norm(x)))


BLOCK = Exercise(
    reference=encoder_block,
    cases=block_cases,
    batched=(0,),
    mistakes=dict(
        post_norm=Wrong(
            lambda x, attention, mlp, attention_norm, mlp_norm: mlp_norm(after(attention_norm(after(x, attention)), mlp))
        ).hint("""This is BERT's block, post-norm: the norm comes after the sum, on the stream itself. In a ViT it comes before the layer,
            on the layer's input: x + attention(attention_norm(x))."""),
        no_norm=Wrong(lambda again: again(attention_norm=nn.Identity(), mlp_norm=nn.Identity())).hint("""
            There is no norm: each layer should read the normalised stream, attention_norm(x) and mlp_norm(x)."""),
        no_residual=Wrong(partial(encoder_block, put=lambda x, look, think: think(look(x)))).hint("""
            Nothing is added: each layer replaces the stream instead of writing into it, so what came in is lost. x + … both times."""),
        no_residual_around_attention=Wrong(partial(encoder_block, put=lambda x, look, think: after(look(x), think))).hint("""
            The MLP's result is added to the stream, but attention's result replaces it. x + … there, too."""),
        no_residual_around_mlp=Wrong(partial(encoder_block, put=lambda x, look, think: think(after(x, look)))).hint("""
            Attention's result is added to the stream, but the MLP's result replaces it. x + … there, too."""),
        residual_from_the_normed=Wrong(
            lambda x, attention, mlp, attention_norm, mlp_norm: after(mlp_norm(after(attention_norm(x), attention)), mlp)
        ).hint("""
            The residual is taken from the normalised stream: x = norm(x); x = x + layer(x). Published code has had this very bug. The norm
            is for the layer's input only; what is added to must be the stream before the norm."""),
        second_residual_from_the_normed=Wrong(
            lambda x, attention, mlp, attention_norm, mlp_norm: after(mlp_norm(x + attention(attention_norm(x))), mlp)
        ).hint("""The attention half is right. In the MLP half the norm's result was stored in x before the sum, so the residual is taken
            from the normalised stream."""),
        one_norm_for_both=Wrong(lambda again, attention_norm: again(mlp_norm=attention_norm)).hint("""
            attention_norm was used for both. The two norms have weights of their own: the MLP reads mlp_norm(x)."""),
        norms_exchanged=Wrong(lambda again, attention_norm, mlp_norm: again(attention_norm=mlp_norm, mlp_norm=attention_norm)).hint("""
            The two norms are exchanged: attention reads attention_norm(x), the MLP reads mlp_norm(x)."""),
        mlp_not_normed=Wrong(lambda again: again(mlp_norm=nn.Identity())).hint("The MLP reads the stream as it is. Give it mlp_norm(x)."),
        in_parallel=Wrong(partial(encoder_block, put=lambda x, look, think: x + look(x) + think(x))).hint("""
            Attention and MLP both read the x that came in, side by side. (Some models do so.) In a ViT the MLP comes second, and reads the
            stream into which attention has already written."""),
        forgets_what_attention_wrote=Wrong(partial(encoder_block, put=lambda x, look, think: x + think(after(x, look)))).hint("""
            The second sum starts from the x that came in, so what attention wrote is lost again. Update x first: x = x + attention(…)."""),
        mlp_before_attention=Wrong(partial(encoder_block, put=lambda x, look, think: in_turn(x, think, look))).hint("""
            The MLP comes before attention. First look around, then think it over: attention, then MLP."""),
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


def classify(
    patches: Tensor,
    class_token: Tensor,
    positions: Tensor,
    encoder: Layer,
    head: Layer,
    *,
    read: Callable[[Tensor], Tensor] = lambda tokens: tokens[:, 0],
    at_the_end: bool = False,
) -> Tensor:
    """A class token through the encoder, with what people get wrong as options; without them it is right."""
    tokens = [class_token.expand(len(patches), 1, -1), patches]
    return head(read(encoder(torch.cat(tokens[::-1] if at_the_end else tokens, dim=1) + positions)))


NONE = torch.zeros(())  # no positions: nothing is added

CLASS_TOKEN = Exercise(
    reference=classify,
    cases=class_token_cases,
    batched=(0,),
    mistakes=dict(
        token_appended=Wrong(partial(classify, read=lambda tokens: tokens[:, -1], at_the_end=True)).hint("""
            The class token stands last. It comes first, and so does its row of the position table: appended, every patch gets the position
            of its neighbour."""),
        token_appended_first_read=Wrong(partial(classify, at_the_end=True)).hint("""
            The class token was appended at the end, but the first token is read, which is now a patch. Put it in front: torch.cat([class
            token, patches])."""),
        mean_of_all=Wrong(partial(classify, read=lambda tokens: tokens.mean(dim=1))).hint("""
            The head reads the mean of all tokens. Many good models do so; here it reads the class token alone: [:, 0]."""),
        mean_of_patches=Wrong(partial(classify, read=lambda tokens: tokens[:, 1:].mean(dim=1))).hint("""
            The head reads the mean of the patches, and the class token is computed for nothing. Here it reads the class token alone: [:,
            0]."""),
        last_read=Wrong(partial(classify, read=lambda tokens: tokens[:, -1])).hint("""
            The head reads the last token, which is the bottom right patch. The class token is the first: [:, 0]."""),
        positions_before_token=Wrong(lambda again, patches, positions: again(patches=patches + positions[1:], positions=NONE)).hint("""
            The positions were added before the class token was put in front, so it has none. The table's first row is its own: first
            torch.cat, then + positions."""),
        positions_one_off=Wrong(lambda again, patches, positions: again(patches=patches + positions[:-1], positions=NONE)).hint("""
            Every patch got the position of the place before it: the table's first row, which belongs to the class token, went to the first
            patch. First torch.cat, then + positions."""),
        no_positions=Wrong(lambda again: again(positions=NONE)).hint("""
            The positions were not added: the model would not know where a patch was."""),
        no_class_token=Wrong(lambda patches, positions, encoder, head: head(encoder(patches + positions[1:]).mean(dim=1))).hint("""
            There is no class token: the mean of the patches is read. Put the token in front, and read it: [:, 0]."""),
        token_added_at_the_end=Wrong(
            lambda again, class_token, head: again(class_token=0 * class_token, head=lambda x: head(x + class_token))
        ).hint("""The class token was added after the encoder. It must go through the encoder to look at the patches: it is its vector that
            says, as a query, what to look for."""),
        not_encoded=Wrong(lambda again: again(encoder=nn.Identity())).hint("""
            The encoder is missing: the class token has not looked at a single patch, so every picture gets the same logits."""),
        every_token_classified=Wrong(partial(classify, read=nn.Identity())).hint("""
            There is a row of logits for every token. Only the class token goes to the head: take [:, 0] of what the encoder returns."""),
    ),
    afterthought="Something to think of: the class token is the same for every picture. When do two pictures' class tokens first differ?",
)

EXERCISES = {"attend": ATTENTION, "encoder_block": BLOCK, "classify": CLASS_TOKEN}
