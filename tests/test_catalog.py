"""The model catalogue: what a file may say, and how models are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.bootstrap.derived import DEFAULT_MODELS
from core.catalog import Catalog, InvalidCatalog, Tier
from core.errors import UnknownModel

SHIPPED = Catalog.from_file(DEFAULT_MODELS)
ENTRY = """
[[models]]
id = "org/Model-1"
name = "Model 1"
description = "d"
tier = "pro"
max_tokens = 10
context_length = 20
aliases = ["model-1.gguf"]
"""


def read(tmp_path: Path, text: str) -> Catalog:
    file = tmp_path / "models.toml"
    file.write_text(text, "utf-8")
    return Catalog.from_file(file)


class TestCatalog:
    def test_ships_the_four_models_of_the_product_and_the_demo(self) -> None:
        tiers = {model.id: model.tier for model in Catalog.from_file(DEFAULT_MODELS)}

        assert tiers == {
            "bigscience/bloom-560m": Tier.FREE,
            "meta-llama/Llama-3.1-8B": Tier.FREE,
            "meta-llama/Llama-3.1-70B": Tier.PRO,
            "mistralai/Mistral-7B-Instruct-v0.2": Tier.FREE,
            "HuggingFaceTB/SmolLM2-135M-Instruct": Tier.FREE,
        }

    def test_a_request_must_name_a_model_exactly(self, tmp_path: Path) -> None:
        catalog = read(tmp_path, ENTRY)

        assert catalog.require("org/Model-1").max_tokens == 10
        with pytest.raises(UnknownModel, match="Model org/model-1 not found"):
            catalog.require("org/model-1")

    @pytest.mark.parametrize("name", ["org/Model-1", "ORG/MODEL-1", "model-1.gguf"])
    def test_a_node_may_use_another_letter_case_or_an_alias(self, tmp_path: Path, name: str) -> None:
        model = read(tmp_path, ENTRY).named(name)

        assert model is not None
        assert model.id == "org/Model-1"

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "no \\[\\[models\\]\\] table"),
            ("[[models]]", "missing required field `id`"),
            (ENTRY.replace('"pro"', '"gold"'), "gold"),
            (ENTRY.replace("max_tokens = 10", "max_tokens = '10'"), "max_tokens"),
            (ENTRY + "colour = 'red'", "colour"),
            (ENTRY + ENTRY, "share an id or alias"),
            (ENTRY + ENTRY.replace("org/Model-1", "MODEL-1.GGUF"), "share an id or alias"),
            ("= broken", "models.toml"),
            (ENTRY.replace("max_tokens = 10", "max_tokens = 0"), r"Expected `int` >= 1 - at `models\[0\]\.max_tokens`"),
            (ENTRY.replace("context_length = 20", "context_length = -5"), r">= 1 - at `models\[0\]\.context_length`"),
            (ENTRY + "default_max_tokens = 0", r">= 1 - at `models\[0\]\.default_max_tokens`"),
            (ENTRY.replace("org/Model-1", ""), r"length >= 1 - at `models\[0\]\.id`"),
            (ENTRY.replace("Model 1", ""), r"length >= 1 - at `models\[0\]\.name`"),
            (ENTRY.replace("model-1.gguf", ""), r"length >= 1 - at `models\[0\]\.aliases\[0\]`"),
        ],
    )
    def test_a_faulty_file_is_refused_by_name(self, tmp_path: Path, text: str, complaint: str) -> None:
        with pytest.raises(InvalidCatalog, match=complaint) as refused:
            read(tmp_path, text)

        assert str(refused.value).startswith(f"MODELS_FILE: {tmp_path}/models.toml: ")
        assert str(refused.value).endswith(". Example: MODELS_FILE=/etc/plumise/models.toml")

    def test_a_missing_file_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(
            InvalidCatalog, match=r"^MODELS_FILE: .*/absent\.toml: can't be read: No such file or directory\. Example: "
        ):
            Catalog.from_file(tmp_path / "absent.toml")

    def test_a_file_in_another_encoding_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "models.toml").write_text(ENTRY, "utf-16")

        with pytest.raises(InvalidCatalog, match=r"models\.toml: can't be read: it is not UTF-8"):
            Catalog.from_file(tmp_path / "models.toml")


class TestDefaultModel:
    def test_it_is_the_first_free_one_that_is_served(self) -> None:
        free = [model.id for model in SHIPPED if model.tier is Tier.FREE]

        assert SHIPPED.chosen("default", lambda model: model == free[1]).id == free[1]
        assert SHIPPED.chosen("default", lambda _: True).id == free[0]
        assert SHIPPED.chosen("default", lambda _: False).id == free[0]

    def test_every_other_name_is_itself_or_unknown(self) -> None:
        pro = next(model.id for model in SHIPPED if model.tier is Tier.PRO)

        assert SHIPPED.chosen(pro, lambda _: False).id == pro
        with pytest.raises(UnknownModel):
            SHIPPED.chosen("DEFAULT", lambda _: True)
