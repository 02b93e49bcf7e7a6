"""SGLang: `python -m sglang.launch_server`. Its tp-size counts all ranks of a stage; attention groups divide them."""

from __future__ import annotations

from ridgeline.serving.launch.deployment import Launch, Note, Pool, has_experts
from ridgeline.serving.launch.engine import PoolRead, Values, Written, read_alike
from ridgeline.serving.launch.facts import fact
from ridgeline.serving.launch.flags import engine_flags
from ridgeline.serving.launch.formats import formats_of
from ridgeline.serving.launch.vllm import NO_HEADS, draft_columns


class Sglang:
    """The engine."""

    name = "sglang"

    def write(self, launch: Launch, pool: Pool) -> Written:
        """The server with every decision of the pool."""
        formats = formats_of(launch, pool, engine_flags(self.name))
        notes = list(formats.notes)
        words = ["python3", "-m", "sglang.launch_server", "--model-path", launch.model]
        words += ["--tp-size", str(pool.stage_chips)]
        for flag, degree in (
            ("--pp-size", pool.pp),
            ("--attn-dp-size", pool.dp),
            ("--attn-cp-size", pool.cp),
            ("--ep-size", pool.ep),
        ):
            words += [flag, str(degree)] if degree > 1 else []
        words += ["--enable-prefill-cp"] if pool.cp > 1 else []
        for flag, text in (
            ("--quantization", formats.quantization),
            ("--dtype", formats.dtype),
            ("--kv-cache-dtype", formats.cache),
            # Both are shared out among the attention groups, and a case counts per group.
            ("--max-running-requests", pool.max_batch * pool.dp or ""),
            ("--chunked-prefill-size", pool.max_batched_tokens * pool.dp or ""),
            ("--max-prefill-tokens", pool.max_batched_tokens or ""),
            ("--mem-fraction-static", f"{pool.memory_frac:.12g}" if pool.memory_frac else ""),
            ("--context-length", launch.context_tokens or ""),
        ):
            words += [flag, str(text)] if text else []
        words += ["--enable-two-batch-overlap"] if pool.half_batches else []
        if pool.draft_tokens:
            words += self._speculates(launch, pool, notes)
        if pool.role:
            words += ["--disaggregation-mode", pool.role, "--disaggregation-transfer-backend", "nixl"]
        return Written(words=tuple(words), notes=tuple(notes))

    def listen(self, port: int) -> tuple[str, ...]:
        """All addresses, and the port."""
        return ("--host", "0.0.0.0", "--port", str(port))  # noqa: S104 - of the written file, behind a Service

    def spread(self, hosts: int, rank: str, leader: str) -> tuple[str, ...]:
        """One of several hosts."""
        return ("--dist-init-addr", f"{leader}:{fact('group_port')}", "--nnodes", str(hosts), "--node-rank", rank)

    def read(self, values: Values) -> PoolRead:
        """The pool of a server; `--dp-size` without attention groups is whole replicas."""
        model, columns, notes = read_alike(self.name, values)
        groups, replicas = values.number("attention_dp", 1.0), values.number("dp", 1.0)
        if values.on("dp_is_attention"):
            groups, replicas = max(groups, replicas), 1.0
        ranks, cp = values.number("tp", 1.0), values.number("cp", 1.0)
        tp = ranks / (groups * cp)
        if tp != int(tp) or tp < 1:
            text = f"tp-size {ranks:g} is not a multiple of {groups:g} attention groups x context {cp:g}"
            notes.append(Note(column="tp", text=f"{text}; the engine would refuse it"))
            tp = max(tp // 1, 1.0)
        columns |= {"tp": tp, "dp": groups, "cp": cp, "pp": values.number("pp", 1.0)}
        if replicas > 1:
            columns["replicas"] = replicas
        if values.number("ep", 1.0) > 1 or (model is not None and has_experts(model)):
            ep = values.number("ep", 1.0)
            columns |= {"ep": ep, "moe_tp": max(ranks // ep, 1.0)}
        columns |= self._budgets(values, groups, notes) | self._drafts(values, notes)
        mode = values.text("disaggregation")
        role = "" if mode in ("", "null") else mode
        return PoolRead(model=values.text("model"), role=role, columns=columns, notes=tuple(notes))

    def _speculates(self, launch: Launch, pool: Pool, notes: list[Note]) -> list[str]:
        tree = ["--speculative-num-draft-tokens", str(pool.draft_tokens + 1)]
        if launch.published.drafts:
            steps = ["--speculative-num-steps", str(pool.draft_tokens), "--speculative-eagle-topk", "1"]
            return ["--speculative-algorithm", "EAGLE", *steps, *tree]
        notes.append(Note(column="draft_tokens", text=NO_HEADS))
        return ["--speculative-algorithm", "NGRAM", *tree]

    def _budgets(self, values: Values, groups: float, notes: list[Note]) -> dict[str, float]:
        columns: dict[str, float] = {}
        if "max_batch" in values.found:
            columns["max_batch"] = max(values.number("max_batch") // groups, 1.0)
        chunk, most = values.number("chunk"), values.number("max_batched_tokens")
        if chunk < 0:
            notes.append(Note(column="", text="prompts are not cut into chunks"))
        limits = [limit for limit in (chunk // groups, most) if limit > 0]
        if limits:
            columns["max_batched_tokens"] = min(limits)
        return columns

    def _drafts(self, values: Values, notes: list[Note]) -> dict[str, float]:
        method, tree = values.text("spec_method"), values.number("spec_tree")
        if not method:
            return {}
        if values.number("spec_branches") > 1:
            notes.append(Note(column="draft_tokens", text="drafts branch; predictions take one chain of the steps"))
        tokens = values.number("spec_tokens") or max(tree - 1, 0.0)
        return draft_columns(tokens, method, values.at("spec_method"), notes)
