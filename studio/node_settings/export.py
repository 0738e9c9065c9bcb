"""The settings of the Export node and of its formats."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import field_validator

from studio.graph.schema import Settings, setting
from studio.node_settings.ollama_name import name_fault
from studio.node_settings.repository_name import branch_fault, repository_fault
from studio.shown_text import short


class ExportSettings(Settings):
    """What is written and where."""

    format: str = setting(
        "safetensors",
        "Format",
        "Safetensors is the format that transformers, PEFT, vLLM and most other tools load. GGUF is for llama.cpp "
        "and LM Studio, the Ollama folder for Ollama. Hugging Face Hub uploads one of the first two.",
        variant="exporter",
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the selected format.", advanced=True
    )
    folder: str = setting(
        "",
        "Folder",
        "Output folder. Leave empty to write into the run folder. Relative paths start at the "
        "project folder.",
        widget="folder",
        placeholder="in the run folder",
    )
    check_rows: int = setting(
        16,
        "Check rows",
        "Number of rows on which the export is compared with the trained model, after its own program has read it "
        "back: the evaluated or validation rows, else training rows. 0 turns the check off, and the export counts as "
        "not proven. Typical: 16 to 96.",
        unit="rows",
        ge=0,
        le=256,
        special={0: "off"},
        advanced=True,
    )


AdapterForm = Literal["portable", "as_trained"]


def _form(shown_if: dict[str, Any] | None = None, more: str = "", **labels: str) -> Any:
    return setting(
        "portable",
        "Adapter form",
        "Portable is a plain LoRA of one rank with scale 1, which PEFT, vLLM and llama.cpp load with the same "
        "effect. As trained keeps the adapter's own method, ranks and scales: only PEFT loads all of them, and "
        f"other programs may apply another scale without an error. {more}Models are not affected.",
        choice_labels={"portable": "Portable", "as_trained": "As trained", **labels},
        shown_if=shown_if,
    )


class SafetensorsSettings(Settings):
    """The form in which an adapter is written, and the precision of a model."""

    model_quantization: Literal["none", "fp8"] = setting(
        "none",
        "Quantization",
        "Of a model; adapters are not quantized. FP8 stores the weights of the linear layers in 8 bits with a scale "
        "per output channel, about half the size of 16 bits, for vLLM, SGLang and transformers (with the package "
        "compressed-tensors). Embedding, head, norms and the routers of mixtures are kept.",
        choice_labels={"none": "None", "fp8": "FP8"},
    )
    form: Literal["portable", "as_trained", "mlx"] = _form(
        more="MLX is the format of mlx-lm on Apple silicon, for its option --adapter-path. ",
        mlx="MLX (mlx-lm)",
    )
    max_rank: int = setting(
        64,
        "Maximum rank",
        "What is not a LoRA (DoRA, OFT, fully trained modules, trained tokens, ...) is converted by a singular "
        "value decomposition to at most this rank; the share of the change that is kept is shown. Typical: 32 to "
        "256. A higher rank keeps more and makes a larger file. The rank of a LoRA is not lowered.",
        ge=1,
        le=512,
        advanced=True,
        shown_if={"form": ["portable", "mlx"]},
    )


Quantization = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
"""Those that need no other program."""

KQuant = Literal[
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q4_K_M",
    "Q4_K_S",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "Q2_K",
    "IQ4_NL",
    "IQ4_XS",
    "IQ3_M",
    "IQ3_S",
    "IQ3_XXS",
]
"""Those that are written with llama.cpp."""


def _max_rank() -> Any:
    """The setting of the formats that convert adapters for llama.cpp."""
    return setting(
        64,
        "Maximum rank",
        "Of an adapter. What is not a LoRA (DoRA, OFT, ...) is converted by a singular value decomposition to at "
        "most this rank; the share of the change that is kept is shown. Typical: 32 to 256. Models are not affected.",
        ge=1,
        le=512,
        advanced=True,
    )


def _quantizations(shown_if: dict[str, Any] | None = None) -> Any:
    return setting(
        ["Q8_0"],
        "Quantizations",
        "One file is written for each: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0; with llama.cpp also Q6_K, "
        "Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, IQ4_NL, IQ4_XS, IQ3_M, IQ3_S and IQ3_XXS. Q8_0 "
        "takes 8.5 bits per weight and stays close to the model; Q4_K_M takes about 4.9 bits and is better than Q4_0. "
        "Adapters are not quantized: they are written in those of F32, F16 and BF16 that are chosen, else in F32.",
        max_length=22,
        shown_if=shown_if,
    )


def _known_quantizations(chosen: Any) -> Any:
    """The chosen quantizations in capitals, each once; raises ``ValueError`` for others."""
    if not isinstance(chosen, list):
        return chosen
    names = list(dict.fromkeys(str(name).upper() for name in chosen))
    known = (*get_args(Quantization), *get_args(KQuant))
    other = next((n for n in names if n not in known), None)
    if other is not None:
        raise ValueError(f"the quantization {short(other)} is not one of {', '.join(known)}.")
    if not names:
        raise ValueError("choose at least one quantization.")
    return names


class GgufSettings(Settings):
    """The quantizations of a model, and the rank of an adapter."""

    quantizations: list[Quantization | KQuant] = _quantizations()
    importance_matrix: Literal["auto", "always", "never"] = setting(
        "auto",
        "Importance matrix",
        "Which inputs of each layer matter on the rows of the training, so that these are stored more precisely. "
        "Automatic uses it for I-quants, Q3_K and Q2_K; always for all K- and I-quants. It takes a pass of "
        "the model over the rows.",
        choice_labels={"auto": "Automatic", "always": "Always", "never": "Never"},
        advanced=True,
    )
    importance_rows: int = setting(
        256,
        "Rows for the importance matrix",
        "Number of training rows, evenly spaced. Typical: 100 to 1000.",
        unit="rows",
        ge=1,
        le=100_000,
        advanced=True,
        shown_if={"importance_matrix": ["auto", "always"]},
    )
    layout: Literal["plain", "lm_studio"] = setting(
        "plain",
        "Layout",
        "LM Studio writes into PUBLISHER/PROJECT-GGUF, as LM Studio expects it: below Folder, or, if that is empty, "
        "below LM Studio's own folder for models, so that it lists the files at once. Only for models.",
        choice_labels={"plain": "Files in one folder", "lm_studio": "LM Studio"},
        advanced=True,
    )
    publisher: str = setting(
        "lora-studio",
        "Publisher",
        "The first part of the name under which LM Studio lists the model, such as your name on the Hub.",
        shown_if={"layout": "lm_studio"},
        max_length=96,
        advanced=True,
    )
    max_rank: int = _max_rank()

    @field_validator("publisher")
    @classmethod
    def _one_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name.strip()) or name.strip().endswith("."):
            raise ValueError(
                "the publisher must consist of letters, digits, hyphens, dots and underscores."
            )
        return name.strip()

    @field_validator("quantizations", mode="before")
    @classmethod
    def _known_once(cls, chosen: Any) -> Any:
        return _known_quantizations(chosen)


class OllamaSettings(Settings):
    """The GGUF file and what the Modelfile says beside it."""

    name: str = setting(
        "",
        "Model name",
        "The name of the model in Ollama, such as support-tone or me/support-tone:q8. Leave empty to use the name of "
        "the project.",
        placeholder="from the project",
        max_length=240,
    )
    quantization: Quantization | KQuant = setting(
        "Q8_0",
        "Quantization",
        "How the weights of the model are stored. Q8_0 stays close to the model; Q4_K_M takes about half of it "
        "and needs llama.cpp, as do all K- and I-quants; F16 is exact for models that were saved in 16 bits. "
        "An adapter is not quantized, but the base model that is written with it.",
    )
    base: str = setting(
        "",
        "Base model in Ollama",
        "Only for adapters: a model that Ollama has, such as llama3.2:1b, or the path of a GGUF file, to which the "
        "adapter is applied. It must be the base model of the adapter. Leave empty to write the base model, too.",
        placeholder="written as GGUF",
        max_length=1000,
        advanced=True,
    )
    system: str = setting(
        "",
        "System message",
        "A system message that Ollama sends with every conversation that has none. Leave empty for none.",
        widget="multiline",
        max_length=100_000,
        advanced=True,
    )
    context_length: int = setting(
        0,
        "Context length",
        "The number of tokens for which Ollama reserves memory (num_ctx). With 0, the context of the model, but at "
        "most 8192. Typical: 4096 to 32768.",
        unit="tokens",
        ge=0,
        le=10_000_000,
        advanced=True,
    )
    max_rank: int = _max_rank()

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str) -> str:
        fault = name_fault(name.strip()) if name.strip() else ""
        if fault:
            raise ValueError(f"is not a name for Ollama: {fault}.")
        return name.strip()

    @field_validator("base")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if any(not c.isprintable() or c == '"' for c in text):
            raise ValueError("is neither the name of a model nor the path of a file.")
        return text.strip()

    @field_validator("system")
    @classmethod
    def _quotable(cls, text: str) -> str:
        if '"""' in text:
            raise ValueError('a Modelfile cannot contain three quotation marks in a row (""").')
        return text


class HubSettings(Settings):
    """What is uploaded to the Hugging Face Hub, and to which repository."""

    repository: str = setting(
        "",
        "Repository",
        "The repository on the Hub, as owner/name; the owner is your user name or an organization. It is created if "
        "it does not exist.",
        placeholder="owner/name",
        max_length=200,
    )
    private: bool = setting(
        True,
        "Private",
        "Only you and the members of the organization can see a private repository. When this is off, a new "
        "repository is public. The visibility of an existing repository is not changed: nothing is uploaded if it is "
        "public and this is on.",
    )
    content: Literal["safetensors", "gguf"] = setting(
        "safetensors",
        "Content",
        "What is uploaded: the files of the format Safetensors folder, or those of the format GGUF.",
        choice_labels={"safetensors": "Safetensors", "gguf": "GGUF"},
    )
    form: AdapterForm = _form({"content": "safetensors"})
    quantizations: list[Quantization | KQuant] = _quantizations({"content": "gguf"})
    max_rank: int = _max_rank()
    message: str = setting(
        "",
        "Commit message",
        "The message of the commit on the Hub. Leave empty to use “Upload with LoRA Studio”.",
        placeholder="Upload with LoRA Studio",
        max_length=200,
        advanced=True,
    )
    branch: str = setting(
        "",
        "Branch",
        "The branch that is uploaded to. It is created if it does not exist. Leave empty to use main.",
        placeholder="main",
        max_length=200,
        advanced=True,
    )
    upload_failed: bool = setting(
        False,
        "Upload despite failed check",
        "Also upload an export whose check failed, which means that it does not answer as the trained model. The "
        "model card then says that the check failed.",
        advanced=True,
    )

    @field_validator("quantizations", mode="before")
    @classmethod
    def _known_once(cls, chosen: Any) -> Any:
        return _known_quantizations(chosen)

    @field_validator("repository")
    @classmethod
    def _valid_repository(cls, name: str) -> str:
        fault = repository_fault(name.strip()) if name.strip() else ""
        if fault:
            raise ValueError(f"is not the ID of a repository: {fault}.")
        return name.strip()

    @field_validator("branch")
    @classmethod
    def _valid_branch(cls, name: str) -> str:
        fault = branch_fault(name.strip()) if name.strip() else ""
        if fault:
            raise ValueError(f"is not the name of a branch: {fault}.")
        return name.strip()

    @field_validator("message")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if any(not c.isprintable() for c in text):
            raise ValueError("must be one line.")
        return text.strip()
