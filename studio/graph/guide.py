"""Which page of the guide explains what: problems, findings of the report, settings, and parts of the window.

A place is written ``page.md#section``, with the section's title in lower case and hyphens for spaces; pages are in
``docs/guide``. A test checks that each place exists and that each code of a problem is in one of the tables. Codes and
settings of extensions have no page of their own.
"""

from __future__ import annotations

INDEX = "index.md"
FOLDER = "docs/guide"

_COLUMNS = "data.md#columns-and-formats"
_ROWS = "data.md#rows-that-cannot-be-used"
_UNUSED = "data.md#what-is-not-used"
_FILES = "data.md#files-and-encodings"
_SPLIT = "data.md#validation-rows"
_GOOD_FILE = "data.md#what-makes-a-good-file"
_TEMPLATE = "rows-and-tokens.md#chat-template"
_END = "rows-and-tokens.md#end-token"
_REPORT = "rows-and-tokens.md#report"
_LENGTH = "settings.md#batch"
_LORA = "settings.md#lora"
_FULL = "settings.md#full-fine-tuning"
_RATE = "settings.md#learning-rate"
_EPOCHS = "settings.md#length-of-the-training"
_LOAD = "base-model.md#a-model-that-cannot-be-loaded"
_HUB = "base-model.md#from-the-hub"
_PRECISION = "base-model.md#precision-and-quantization"
_CODE = "base-model.md#custom-code"
_CHECKPOINTS = "stopping.md#checkpoints-and-crashes"
_RESUME = "stopping.md#stop-and-resume"
_AFTER_EDIT = "stopping.md#after-an-edit"
_MERGE = "memory.md#merge-and-export"
_EXPORT = "results.md#export"
_VERIFIED = "results.md#verification"
_RESIZE = "results.md#a-smaller-adapter"
_ADAPTER_MIX = "results.md#several-adapters-in-one"
_LOAD_ADAPTER = "results.md#an-adapter-from-elsewhere"
_STAGES = "results.md#train-further"
_NO_GPU = "troubleshooting.md#the-gpu-is-not-used"
_DISK = "troubleshooting.md#disk-and-permissions"
_NETWORK = "troubleshooting.md#no-network"
_VERSIONS = "troubleshooting.md#projects-and-runs-of-other-versions"
_NAN = "curves.md#a-learning-rate-that-is-too-high"
_WIRES = "canvas.md#problems"
_TEST_ROWS = "evaluation.md#test-rows"
_FIRST = "first-training.md#nodes-that-train-nothing"

_PROBLEM_CODES = {
    _COLUMNS: (
        "bad_choices given_twice missing_column missing_language no_prompt not_rendered "
        "rendered_chat several_tools spread_choices unknown_format unknown_label unnamed_label "
        "unsure_format"
    ),
    _ROWS: (
        "bad_answer bad_character bad_drop_rows bad_history bad_label bad_row bad_tool_call "
        "bad_tools bad_weight broken_file empty_content late_thought misplaced_thought no_answer "
        "no_conversation no_list no_rows no_text not_an_object not_json not_messages not_text "
        "odd_shapes refused_row rows_not_checked rows_skipped same_pair several_thoughts "
        "template_failed template_too_slow two_lists unknown_item unknown_role wrong_width"
    ),
    _UNUSED: "unused_column unused_content",
    _FILES: (
        "bad_header bad_hub_name corrupt_csv corrupt_document corrupt_json corrupt_parquet "
        "corrupt_sheet corrupt_sqlite corrupt_zip empty_file empty_folder encrypted_file "
        "file_error files_left_out files_skipped folder_not_file folder_too_large giant_document "
        "giant_line lfs_pointer missing_package mixed_folder no_file no_match no_table "
        "no_train_files not_fetched not_utf8 old_feather saved_with_indices several_tables "
        "split_by_name split_doubtful split_listed split_missing split_not_by_name too_many_files "
        "unknown_suffix unreadable_file web_page wrong_encoding zip_bomb"
    ),
    _SPLIT: (
        "no_split_column no_train_rows no_validation_files no_validation_rows one_group "
        "unknown_side"
    ),
    "data.md#mix-datasets": "no_weight",
    _TEMPLATE: (
        "bad_template bad_template_kwargs needs_template no_invocation no_template "
        "no_template_kwargs other_template template_refused template_refuses_all "
        "unstable_template"
    ),
    "rows-and-tokens.md#tokens": "nothing_to_train nothing_trained wrong_shape",
    _LORA: (
        "adapter_build adapter_unmoved bias_dtype eva_not_converged experts_quantized "
        "method_dtype method_layers method_quantization no_linear_layers rate_for_method "
        "saved_dtype setting_unused token_trained_twice too_few_steps too_few_tokens "
        "unknown_module unknown_target unknown_token"
    ),
    _FULL: "model_unmoved no_trained_layers whole_quantized",
    _RATE: "high_rate",
    _EPOCHS: "cadence_beyond_end early_stopping_keeps_last no_such_result",
    "settings.md#reproducibility": "not_repeatable",
    _LOAD: (
        "adapter_beside bad_config bad_model bad_weights foreign_code gguf_import "
        "layer_count link_outside missing_file missing_setting missing_tensors model_load "
        "no_tokenizer no_weights not_a_model old_runtime pickle_weights quantized_source surplus_tensors "
        "tied_ends tied_tokens unknown_starter unsupported_model wrong_hash wrong_shapes"
    ),
    _HUB: "download_damaged download_failed",
    _PRECISION: (
        "attention_unsupported bfloat16_emulated dtype_unsupported not_quantized "
        "quantization_unsupported"
    ),
    _CODE: "auto_map needs_own_code no_own_code",
    "memory.md#when-memory-runs-out": "out_of_memory",
    "memory.md#the-estimate": "estimate too_large",
    _MERGE: "cannot_merge",
    _EXPORT: "file_in_the_way folder_not_empty invalid_name path_too_long wrong_export",
    _VERIFIED: "adapter_damaged export_mismatch merge_mismatch reload_mismatch",
    _STAGES: "cannot_continue goes_on",
    _LOAD_ADAPTER: "adapter_folder bad_adapter model_folder not_an_adapter other_base",
    "gguf.md#architectures": "gguf_unsupported",
    "gguf.md#the-tokenizer": "gguf_tokenizer",
    "gguf.md#k--and-i-quants": "no_quantizer",
    "results.md#the-check-of-an-export": "template",
    "results.md#llamacpp-for-python": "no_llama_cpp not_installed",
    "results.md#fp8-awq-gptq-and-nvfp4": "cannot_quantize no_compressed_tensors",
    "other-programs.md#mlx": "cannot_mlx no_mlx",
    "results.md#use-it-in-another-program": "nothing_to_export nothing_to_use",
    "ollama.md": "no_ollama ollama_failed",
    "lm-studio.md": "lm_studio_adapter no_lm_studio",
    "gguf.md#an-adapter-alone": "gguf_adapter",
    "hub.md": "hub_offline no_repository path_in_upload upload_blocked",
    "hub.md#the-token": "bad_token no_keyring no_token no_write_access token_refused",
    "hub.md#when-the-upload-ends-early": (
        "card_refused connection_lost hub_busy hub_conflict hub_down hub_full hub_public hub_too_large "
        "no_such_repository upload_damaged upload_failed"
    ),
    _RESIZE: "cannot_resize nothing_to_shrink",
    _ADAPTER_MIX: "cannot_mix mix_without_rows no_mix_weight other_mix_base",
    _NO_GPU: "gpu_lost gpu_not_used no_such_device two_devices",
    _DISK: "copy_failed disk_full no_permission not_writable runs_folder save_failed",
    _NETWORK: "no_network",
    _VERSIONS: (
        "damaged_plan damaged_run newer_plan newer_project other_version unknown_run "
        "unreadable_project"
    ),
    _NAN: "loss_not_finite",
    _CHECKPOINTS: "checkpoint_mismatch",
    _AFTER_EDIT: "changed_since_plan",
    _WIRES: (
        "cycle duplicate_id invalid_setting unconnected unknown_setting unknown_type "
        "unknown_variant unusable_setting"
    ),
    _FIRST: "empty no_base_model no_model no_train no_training unused_node",
    _TEST_ROWS: "nothing_to_ask",
}
"""Codes of problems, of errors that end a run, and of notices, by place."""

WITHOUT_PAGE = frozenset(
    {
        "bad_argument",  # the command line: the sentence lists what is possible
        "bug",
        "data_changed",  # the window reads the data again
        "error",
        "helper",
        "invalid",
        "not_here_yet",
        "not_open",
        "not_running",
        "not_training",
        "ollama_stopped",  # by the user
        "running",
        "several_trains",
        "unexpected",
    }
)
"""Codes that no page explains: their sentence says all there is to say."""

_FINDING_CODES = {
    _GOOD_FILE: "duplicate near_duplicate leak near_leak repeated_answer empty_answer one_token_answer encoding "
    "role_error",
    _ROWS: "broken_file bad_row refused_row",
    _UNUSED: "unused_column",
    _COLUMNS: "rendered_chat",
    "rows-and-tokens.md#tokens": "nothing_trained zero_trained other_prompt control_tokens double_bos",
    _LENGTH: "cut_answer cut_text cut_row split_text",
    _TEMPLATE: "lost_results lost_thoughts lost_tools lost_system lost_calls lost_names lost_kwargs empty_thoughts",
    _END: "missing_end written_end",
}

SETTINGS: dict[str, dict[str, str]] = {
    "dataset": {
        "": "data.md",
        "format": _COLUMNS,
        "Rows": _GOOD_FILE,
        "ignored_columns": _UNUSED,
        "on_bad_rows": _ROWS,
        "Split": _SPLIT,
        "Reading": _FILES,
        "Hub": _FILES,
    },
    "mix": {"": "data.md#mix-datasets"},
    "base_model": {
        "": "base-model.md",
        "model": "base-model.md#the-list-of-models",
        "dtype": _PRECISION,
        "quantization": _PRECISION,
        "double_quant": _PRECISION,
        "attention": _PRECISION,
        "Hub": _HUB,
    },
    "lora": {"": _LORA},
    "train": {
        "": "settings.md",
        "Length": _EPOCHS,
        "Batch": _LENGTH,
        "Data": _TEMPLATE,
        "end_token": _END,
        "Loss": _RATE,
        "Optimizer": _RATE,
        "Evaluation and checkpoints": _CHECKPOINTS,
        "Stopping": _EPOCHS,
        "Samples": "curves.md#samples",
        "Full fine-tuning": _FULL,
        "Memory": "memory.md#make-it-fit",
        "device": _NO_GPU,
        "Reproducibility": "settings.md#reproducibility",
    },
    "merge": {"": _MERGE},
    "resize": {"": _RESIZE},
    "adapter_mix": {"": _ADAPTER_MIX},
    "load_adapter": {"": _LOAD_ADAPTER, "Hub": _HUB},
    "export": {"": _EXPORT},
    "evaluate": {"": _TEST_ROWS},
}
"""Node type -> place of the node (an empty name), and of its settings by name or by topic (``Meta.group``)."""

PARTS = {
    "canvas": "canvas.md",
    "palette": "canvas.md",
    "curves": "curves.md",
    "insight": "curves.md#insight",
    "samples": "curves.md#samples",
    "results": "results.md",
    "install": "results.md#llamacpp-for-python",
    "log": "troubleshooting.md",
    "runs": "stopping.md#earlier-runs",
    "rows": "rows-and-tokens.md#rows",
    "tokens": "rows-and-tokens.md#tokens",
    "report": _REPORT,
    "estimate": "memory.md#the-estimate",
    "problems": _WIRES,
    "base-models": "base-model.md#the-list-of-models",
    "templates": "templates.md",
    "recipe": "settings.md",
    "make-it-fit": "memory.md#make-it-fit",
    "out-of-memory": "memory.md#when-memory-runs-out",
    "resume": _RESUME,
    "changed": _AFTER_EDIT,
    "set-up": "first-training.md#with-your-own-file",
    "template": _TEMPLATE,
}
"""Part of the window -> place."""


def _by_code(places: dict[str, str]) -> dict[str, str]:
    return {code: place for place, codes in places.items() for code in codes.split()}


PROBLEMS = _by_code(_PROBLEM_CODES)
FINDINGS = _by_code(_FINDING_CODES)


def of_problem(code: object) -> str:
    """The place that explains a problem, an error or a notice; empty if there is none."""
    return PROBLEMS.get(str(code), "")


def of_setting(node_type: str, path: str, group: str) -> str:
    """The place that explains a setting; one of a variant is explained with the field that selects it."""
    places = SETTINGS.get(node_type, {})
    name = path.partition(".")[0].removesuffix("_settings")
    return places.get(name) or places.get(group) or places.get("", "")


def of_node(node_type: str) -> str:
    """The place that explains a node type; empty for those of extensions."""
    return SETTINGS.get(node_type, {}).get("", "")
