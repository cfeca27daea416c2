"""How transformers names its own classifier of each family: what it is called, and where its layers stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standard:
    """Names of transformers' own classifier of a family: its class, the encoder's prefix, dense and output layer."""

    architecture: str
    prefix: str
    dense: str
    output: str
    norm: str = ""


STANDARD: dict[str, Standard] = {
    "bert": Standard("BertForSequenceClassification", "bert", "bert.pooler.dense", "classifier"),
    "albert": Standard("AlbertForSequenceClassification", "albert", "albert.pooler", "classifier"),
    "electra": Standard("ElectraForSequenceClassification", "electra", "classifier.dense", "classifier.out_proj"),
    "roberta": Standard("RobertaForSequenceClassification", "roberta", "classifier.dense", "classifier.out_proj"),
    "xlm-roberta": Standard(
        "XLMRobertaForSequenceClassification", "roberta", "classifier.dense", "classifier.out_proj"
    ),
    "camembert": Standard("CamembertForSequenceClassification", "roberta", "classifier.dense", "classifier.out_proj"),
    "distilbert": Standard("DistilBertForSequenceClassification", "distilbert", "pre_classifier", "classifier"),
    "modernbert": Standard(
        "ModernBertForSequenceClassification", "model", "head.dense", "classifier", norm="head.norm"
    ),
    "deberta": Standard("DebertaForSequenceClassification", "deberta", "pooler.dense", "classifier"),
    "deberta-v2": Standard("DebertaV2ForSequenceClassification", "deberta", "pooler.dense", "classifier"),
    "mpnet": Standard("MPNetForSequenceClassification", "mpnet", "classifier.dense", "classifier.out_proj"),
}
