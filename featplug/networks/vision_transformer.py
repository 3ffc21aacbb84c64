"""The vision transformer that gives MTLDesc its global context.

Dosovitskiy et al., "An Image is Worth 16×16 Words: Transformers for Image Recognition at Scale",
ICLR 2021, section 3.1, without a class token. Module names are those of MTLDesc's checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORM_EPSILON = 1e-6
_DROPOUT = 0.1


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        heads = [
            projection(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        ]
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(_DROPOUT)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(tokens)))))


class _Layer(nn.Module):
    def __init__(self, dim: int, num_heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=_NORM_EPSILON)
        self.ffn_norm = nn.LayerNorm(dim, eps=_NORM_EPSILON)
        self.ffn = _FeedForward(dim, hidden_dim)
        self.attn = _SelfAttention(dim, num_heads)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.attention_norm(tokens))
        return tokens + self.ffn(self.ffn_norm(tokens))


class _Embeddings(nn.Module):
    def __init__(self, dim: int, grid_side: int, patch_side: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, grid_side**2, dim))
        self.patch_embeddings = nn.Conv2d(dim, dim, patch_side, stride=patch_side)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.patch_embeddings(maps).flatten(2).transpose(1, 2)
        return self.dropout(tokens + self.position_embeddings)


class _Encoder(nn.Module):
    def __init__(self, dim: int, num_layers: int, num_heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(dim, num_heads, hidden_dim) for _ in range(num_layers))
        self.encoder_norm = nn.LayerNorm(dim, eps=_NORM_EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layer:
            tokens = layer(tokens)
        return self.encoder_norm(tokens)


class PatchTransformer(nn.Module):
    """Transformer encoder over the patches of a square feature map.

    Args:
        dim: channels of the map, and dimensions of a token.
        grid_side: patches along a side of the map.
        patch_side: cells along a side of a patch.
        num_layers: pre-norm layers of self-attention and a perceptron, each with a residual.
        num_heads: heads of the self-attention.
        hidden_dim: dimensions within the perceptron.
    """

    def __init__(
        self,
        dim: int,
        grid_side: int,
        patch_side: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
    ) -> None:
        super().__init__()
        self.embeddings = _Embeddings(dim, grid_side, patch_side)
        self.encoder = _Encoder(dim, num_layers, num_heads, hidden_dim)
        # The checkpoints have it, but the released forward pass does not use it.
        self.conv_more = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Encode feature maps.

        Args:
            maps: B×dim×S×S, S = grid_side · patch_side.

        Returns:
            B×dim×grid_side×grid_side in channels-last memory, the tokens at their patches.
        """
        tokens = self.encoder(self.embeddings(maps))
        side = maps.shape[-1] // self.embeddings.patch_embeddings.kernel_size[0]
        return tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)
