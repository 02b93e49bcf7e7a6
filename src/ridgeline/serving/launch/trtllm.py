"""TensorRT-LLM: `trtllm-serve` with a file of extra options. Attention is cut over all ranks or spread over all."""

from __future__ import annotations

import yaml

from ridgeline.serving.launch.deployment import Launch, Note, Pool, has_experts
from ridgeline.serving.launch.engine import PoolRead, Values, Written, overlap_note, read_alike
from ridgeline.serving.launch.flags import engine_flags
from ridgeline.serving.launch.formats import formats_of
from ridgeline.serving.launch.vllm import NO_HEADS, draft_columns


class Trtllm:
    """The engine."""

    name = "trtllm"

    def write(self, launch: Launch, pool: Pool) -> Written:
        """`trtllm-serve MODEL` and its options."""
        formats = formats_of(launch, pool, engine_flags(self.name))
        notes = [*formats.notes, *overlap_note(launch, pool, expressed=False)]
        name = f"{pool.role or 'engine'}.yaml"
        words = ["trtllm-serve", launch.model, "--backend", "pytorch", "--tp_size", str(pool.tp * pool.dp)]
        words += ["--pp_size", str(pool.pp)] if pool.pp > 1 else []
        for flag, number in (
            ("--max_batch_size", pool.max_batch),
            ("--max_num_tokens", pool.max_batched_tokens),
            ("--max_seq_len", launch.context_tokens),
        ):
            words += [flag, str(number)] if number else []
        words += ["--extra_llm_api_options", name]
        options = self._options(launch, pool, formats.cache, notes)
        if formats.dtype:
            options["dtype"] = formats.dtype
        text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
        return Written(words=tuple(words), options_name=name, options=text, notes=tuple(notes))

    def listen(self, port: int) -> tuple[str, ...]:
        """All addresses, and the port."""
        return ("--host", "0.0.0.0", "--port", str(port))  # noqa: S104 - of the written file, behind a Service

    def spread(self, hosts: int, rank: str, leader: str) -> tuple[str, ...]:
        """Nothing: ranks on other hosts are started by MPI."""
        return ()

    def read(self, values: Values) -> PoolRead:
        """The pool of a `trtllm-serve`."""
        model, columns, notes = read_alike(self.name, values)
        ranks, cp = values.number("tp", 1.0), values.number("cp", 1.0)
        spread = values.on("dp_is_attention")
        columns |= {"tp": 1.0 if spread else ranks, "dp": ranks if spread else 1.0, "cp": cp}
        columns["pp"] = values.number("pp", 1.0)
        if "ep" in values.found or "moe_tp" in values.found or (model is not None and has_experts(model)):
            columns |= self._experts(values, ranks * cp)
        tokens, method = values.number("spec_tokens"), values.text("spec_method")
        if method or tokens:
            columns |= draft_columns(tokens, method, values.at("spec_method"), notes)
        return PoolRead(model=values.text("model"), role=self._role(values), columns=columns, notes=tuple(notes))

    def _options(self, launch: Launch, pool: Pool, cache: str, notes: list[Note]) -> dict[str, object]:
        options: dict[str, object] = {}
        if pool.cp > 1:
            options["context_parallel_size"] = pool.cp
            text = "which kind of context parallelism is left to the engine (cp_config)"
            notes.append(Note(column="", text=text))
        if pool.ep:
            options |= {"moe_expert_parallel_size": pool.ep, "moe_tensor_parallel_size": pool.moe_tp}
        if pool.dp > 1:
            options["enable_attention_dp"] = True
            if pool.tp > 1:
                text = f"attention is cut or spread over all ranks, not both: written as tp 1, dp {pool.tp * pool.dp}"
                notes += [Note(column="tp", text=text), Note(column="dp", text=text)]
        kv: dict[str, object] = {"dtype": cache} if cache else {}
        kv |= {"free_gpu_memory_fraction": pool.memory_frac} if pool.memory_frac else {}
        kv |= {"enable_block_reuse": True} if pool.finds_prefixes else {}
        options |= {"kv_cache_config": kv} if kv else {}
        options["enable_chunked_prefill"] = True
        if pool.draft_tokens and launch.published.drafts:
            options["speculative_config"] = {"decoding_type": "MTP", "num_nextn_predict_layers": pool.draft_tokens}
        elif pool.draft_tokens:
            options["speculative_config"] = {"decoding_type": "NGram", "max_draft_len": pool.draft_tokens}
            notes.append(Note(column="draft_tokens", text=NO_HEADS))
        if pool.role:
            options["cache_transceiver_config"] = {"backend": "DEFAULT"}
            options |= {"disable_overlap_scheduler": True} if pool.role == "prefill" else {}
        return options

    def _experts(self, values: Values, stage: float) -> dict[str, float]:
        ep, moe_tp = values.number("ep"), values.number("moe_tp")
        if not ep:
            ep = max(stage // moe_tp, 1.0) if moe_tp else 1.0
        return {"ep": ep, "moe_tp": moe_tp or max(stage // ep, 1.0)}

    def _role(self, values: Values) -> str:
        """Context servers pass caches on and run without the overlap scheduler; generation servers take them."""
        role = values.text("server_role").casefold()
        mode = values.text("disaggregation")
        if role in ("context", "generation"):
            return "prefill" if role == "context" else "decode"
        if mode in ("prefill", "decode"):
            return mode
        if "transfer" not in values.found:
            return ""
        return "prefill" if values.on("no_overlap") else "decode"
