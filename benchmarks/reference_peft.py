#!/usr/bin/env python3
"""Side-by-side baseline: plain `transformers.Trainer` + `peft` LoRA on all seven projections.

This is what a careful user writes from the public docs, with nothing clever in it: pad each batch to
its longest row, let the model build its own logits and loss, AdamW, one log line a step.  It runs on
CPU or CUDA, prints exactly one JSON line on stdout, and fixes data order, adapter initialisation and
dropout by --seed, so that another trainer given the same arguments sees the same batches.

    python benchmarks/reference_peft.py --model-dir DIR --data rows.jsonl --seq-len 512 --batch 2 --steps 20
    python benchmarks/reference_peft.py --model-dir DIR --gguf-file X.gguf --data rows.jsonl --dtype bf16

Rows of the JSONL are one of {"prompt","completion"}, {"messages":[{"role","content"},...]}, {"text"}.
"""

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model-dir", required=True)
    p.add_argument(
        "--gguf-file", default=None, help="file in --model-dir; dequantised to --dtype on load"
    )
    p.add_argument("--data", required=True, help="JSONL")
    p.add_argument("--seq-len", type=int, default=512)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--grad-accum", type=int, default=1)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument(
        "--warmup-steps",
        type=int,
        default=3,
        help="steps left out of the timing (not of the losses)",
    )
    p.add_argument(
        "--dtype",
        choices=["fp32", "bf16"],
        default="fp32",
        help="bf16: weights in bf16, adapters fp32, bf16 autocast (PEFT's and TRL's defaults)",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--lora-r", type=int, default=16)
    p.add_argument("--lora-alpha", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--optim", default="adamw_torch")
    p.add_argument("--attn", default="sdpa")
    p.add_argument("--full-loss", action="store_true", help="train on prompt tokens too")
    p.add_argument("--gradient-checkpointing", action="store_true")
    p.add_argument(
        "--load-4bit", action="store_true", help="bitsandbytes NF4 + double quant (QLoRA); CUDA"
    )
    p.add_argument("--group-by-length", action="store_true")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    p.add_argument(
        "--deterministic", action="store_true", help="deterministic CUDA kernels too (slower)"
    )
    p.add_argument(
        "--profile", default=None, help="write a torch.profiler table of 3 timed steps here"
    )
    return p.parse_args()


def encode(row, tok, seq_len, full_loss):
    """One row -> input_ids, labels (labels are -100 where nothing is trained)."""
    if "text" in row:
        ids = tok(row["text"], add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
        labels = list(ids)
    else:
        msgs = row.get("messages") or [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]

        def render(m, gen):
            if tok.chat_template:
                return tok.apply_chat_template(m, tokenize=False, add_generation_prompt=gen)
            return "".join(f"{x['role']}: {x['content']}\n" for x in m) + (
                "assistant: " if gen else ""
            )

        ids, labels, done = [], [], ""
        for i, message in enumerate(msgs):  # every answer has labels, as in the studio
            if message["role"] != "assistant":
                continue
            head, whole = render(msgs[:i], True), render(msgs[: i + 1], False)
            if not (head.startswith(done) and whole.startswith(head)):
                sys.exit("the chat template does not render a conversation turn by turn")
            a = tok(head[len(done) :], add_special_tokens=False)["input_ids"]
            b = tok(whole[len(head) :], add_special_tokens=False)["input_ids"]
            ids += a + b
            labels += (a if full_loss else [-100] * len(a)) + b
            done = whole
    return {"input_ids": ids[:seq_len], "labels": labels[:seq_len]}


def load_rows(path, tok, seq_len, full_loss, need, seed):
    with open(path, encoding="utf-8") as f:
        rows = [encode(json.loads(line), tok, seq_len, full_loss) for line in f if line.strip()]
    rows = [r for r in rows if any(x != -100 for x in r["labels"][1:])]
    out, k = [], 0
    while len(out) < need:  # fixed order: epoch k is shuffled by (seed, k)
        order = list(range(len(rows)))
        random.Random(seed * 1000003 + k).shuffle(order)
        out += [rows[i] for i in order]
        k += 1
    return out[:need]


class Peak:
    """Peak resident set since reset(), in MB (Linux: VmHWM; elsewhere the process's lifetime peak)."""

    start = 0.0

    def reset(self):
        try:
            with open("/proc/self/clear_refs", "w", encoding="utf-8") as f:
                f.write("5")
        except OSError:
            pass

    def read(self):
        try:
            with open("/proc/self/status", encoding="utf-8") as f:
                for line in f:
                    if line.startswith("VmHWM"):
                        return int(line.split()[1]) / 1024
        except OSError:
            pass
        import psutil

        m = psutil.Process().memory_info()
        return getattr(m, "peak_wset", m.rss) / 2**20


def main():
    a = parse()
    if a.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if a.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import peft
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        logging,
        set_seed,
    )

    logging.set_verbosity_error()
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    cuda = torch.cuda.is_available() and a.device != "cpu"
    if a.device == "cuda" and not cuda:
        sys.exit("no CUDA device")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    set_seed(a.seed)

    kw = {"gguf_file": a.gguf_file} if a.gguf_file else {}
    tok = AutoTokenizer.from_pretrained(a.model_dir, **kw)
    if tok.pad_token_id is None:
        tok.pad_token = tok.eos_token
    if a.load_4bit:
        kw["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        kw["device_map"] = {"": 0}
    t0 = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(
        a.model_dir, dtype=dtype, attn_implementation=a.attn, **kw
    )
    if a.gguf_file:  # weights are plain tensors now; drop the GGUF mark so
        state, cfg = (
            model.state_dict(),
            model.config,
        )  # that Trainer and PEFT take the model as plain
        if hasattr(cfg, "quantization_config"):
            del cfg.quantization_config
        with torch.device("meta"):
            plain = type(model)._from_config(cfg, dtype=dtype, attn_implementation=a.attn)
        plain.load_state_dict(state, assign=True)
        plain.tie_weights()
        for n, b in model.named_buffers():  # rotary tables are non-persistent buffers
            parent = plain.get_submodule(n.rpartition(".")[0])
            parent._buffers[n.rpartition(".")[2]] = b
        model = plain
        del state, plain
    model.config.use_cache = False
    load_s = time.perf_counter() - t0
    if a.load_4bit:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=a.gradient_checkpointing
        )
    elif a.gradient_checkpointing:
        model.enable_input_require_grads()
    set_seed(a.seed)
    model = get_peft_model(
        model,
        LoraConfig(
            r=a.lora_r,
            lora_alpha=a.lora_alpha,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
            target_modules=[
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ],
        ),
    )

    per_step = a.batch * a.grad_accum
    rows = load_rows(a.data, tok, a.seq_len, a.full_loss, per_step * a.steps, a.seed)
    if a.group_by_length:
        rows.sort(key=lambda r: len(r["input_ids"]))
        chunks = [rows[i : i + a.batch] for i in range(0, len(rows), a.batch)]
        random.Random(a.seed).shuffle(chunks)
        rows = [r for c in chunks for r in c]

    def collate(batch):
        n = max(len(r["input_ids"]) for r in batch)
        ids = torch.full((len(batch), n), tok.pad_token_id)
        att = torch.zeros(len(batch), n, dtype=torch.long)
        lab = torch.full((len(batch), n), -100)
        for i, r in enumerate(batch):
            k = len(r["input_ids"])
            ids[i, :k] = torch.tensor(r["input_ids"])
            att[i, :k] = 1
            lab[i, :k] = torch.tensor(r["labels"])
        return {"input_ids": ids, "attention_mask": att, "labels": lab}

    ends, peak, prof = [], Peak(), None

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            gc.collect()
            peak.reset()
            peak.start = peak.read()
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            self.cpu = None

        def on_step_end(self, args, state, control, **_):
            nonlocal prof
            if cuda:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
            if state.global_step == a.warmup_steps:
                self.cpu = time.process_time()
            if a.profile and state.global_step == a.warmup_steps:
                acts = [torch.profiler.ProfilerActivity.CPU] + (
                    [torch.profiler.ProfilerActivity.CUDA] if cuda else []
                )
                prof = torch.profiler.profile(
                    activities=acts, profile_memory=False, record_shapes=True
                )
                prof.__enter__()
            if prof is not None and state.global_step == a.warmup_steps + 3:
                prof.__exit__(None, None, None)
                with open(a.profile, "w", encoding="utf-8") as f:
                    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
                    f.write(prof.key_averages().table(sort_by=key, row_limit=40) + "\n")
                    f.write(
                        prof.key_averages(group_by_input_shape=True).table(
                            sort_by=key, row_limit=60
                        )
                    )
                prof = None

    import dataclasses
    import tempfile

    names = {
        f.name for f in dataclasses.fields(TrainingArguments)
    }  # renamed during transformers 5.x
    ckpt = (
        "activation_checkpointing"
        if "activation_checkpointing" in names
        else "gradient_checkpointing"
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as tmp:
        args = TrainingArguments(
            output_dir=tmp,
            per_device_train_batch_size=a.batch,
            gradient_accumulation_steps=a.grad_accum,
            max_steps=a.steps,
            learning_rate=a.lr,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim=a.optim,
            logging_steps=1,
            logging_strategy="steps",
            save_strategy="no",
            report_to="none",
            seed=a.seed,
            bf16=(a.dtype == "bf16"),
            use_cpu=not cuda,
            dataloader_pin_memory=cuda,
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            **(
                {ckpt: True, ckpt + "_kwargs": {"use_reentrant": False}}
                if a.gradient_checkpointing
                else {}
            ),
        )
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=rows,
            data_collator=collate,
            processing_class=tok,
            callbacks=[clock],
        )
        trainer.callback_handler.callbacks = [
            c for c in trainer.callback_handler.callbacks if type(c).__name__ != "PrinterCallback"
        ]
        w0 = time.perf_counter()
        trainer.train()
        wall = time.perf_counter() - w0
        losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
    cpu1 = time.process_time()

    w = min(a.warmup_steps, a.steps - 1)
    lens = [len(r["input_ids"]) for r in rows]
    labs = [sum(x != -100 for x in r["labels"][1:]) for r in rows]
    timed = slice(w * per_step, a.steps * per_step)
    start = ends[w - 1] if w else w0
    span = ends[-1] - start
    steps_s = [
        y - x
        for x, y in zip(ends[w - 1 :] if w else [w0, *ends], ends[w:] if w else ends, strict=False)
    ]
    padded = sum(
        max(lens[i : i + a.batch]) * a.batch for i in range(timed.start, timed.stop, a.batch)
    )
    print(
        json.dumps(
            {
                "impl": "transformers.Trainer+peft",
                "tokens_per_s": round(sum(lens[timed]) / span, 3),
                "label_tokens_per_s": round(sum(labs[timed]) / span, 3),
                "padded_tokens_per_s": round(padded / span, 3),
                "step_s_median": round(statistics.median(steps_s), 5),
                "cpu_ms_per_token": round(
                    1e3 * (cpu1 - (clock.cpu or 0)) / max(1, sum(lens[timed])), 4
                ),
                "peak_rss_mb": round(peak.read(), 1),
                "rss_at_start_mb": round(peak.start, 1),
                "peak_vram_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1)
                if cuda
                else None,
                "peak_vram_reserved_mb": round(torch.cuda.max_memory_reserved() / 2**20, 1)
                if cuda
                else None,
                "final_loss": losses[-1],
                "losses": losses,
                "tokens": sum(lens[timed]),
                "label_tokens": sum(labs[timed]),
                "pad_share": round(1 - sum(lens[timed]) / padded, 4),
                "train_s": round(wall, 3),
                "load_s": round(load_s, 2),
                "device": torch.cuda.get_device_name() if cuda else "cpu",
                "threads": torch.get_num_threads(),
                "config": {k: v for k, v in vars(a).items() if k not in ("model_dir", "data")},
                "versions": {
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft.__version__,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
