"""A small BERT with a head for classes, built from its configuration by transformers."""

from typing import ClassVar

from torch import Tensor, nn

from tombola.errors import WorldError


class BertClassifier(nn.Module):
    """BERT's encoder and pooler, then one linear layer: `encoder` and `head`.

    words: size of the vocabulary; word 0 is padding, which attention leaves out. length: most words
    of a text. layers, heads, width: of the encoder; its feed-forward layers are twice as wide.
    dropout: after attention, feed-forward layers and pooling.

    All weights as transformers draws them: normal with deviation `spread`, biases zero. Source:
    Devlin et al. 2019 (arXiv 1810.04805), whose deviation is .02 at 24 times the width. Wants the
    package transformers.

    Shapes: input int64 (n, length), output (n, classes).

    Raises:
        WorldError: transformers is not installed.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        words: int,
        length: int,
        classes: int,
        *,
        layers: int = 2,
        heads: int = 2,
        width: int = 32,
        dropout: float = 0.0,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        try:
            from transformers import BertConfig, BertModel
        except ImportError as error:
            raise WorldError(
                "BertClassifier wants the package transformers, which is not installed: "
                'pip install "tombola[transformers]"'
            ) from error
        self.encoder = BertModel(
            BertConfig(
                vocab_size=words,
                max_position_embeddings=length,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=2 * width,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                initializer_range=spread,
                type_vocab_size=1,
                pad_token_id=0,
            )
        )
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=spread)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        pooled = self.encoder(inputs, attention_mask=(inputs != 0).long()).pooler_output
        outputs: Tensor = self.head(pooled)
        return outputs
