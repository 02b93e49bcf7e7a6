"""vLLM: `vllm serve`. Experts are spread over all ranks of a stage or cut over all of them."""

from __future__ import annotations

import json

from ridgeline.core.errors import PlanError
from ridgeline.serving.launch.deployment import Launch, Note, Pool, expert_sizes, has_experts
from ridgeline.serving.launch.engine import PoolRead, Values, Written, read_alike
from ridgeline.serving.launch.flags import engine_flags
from ridgeline.serving.launch.formats import formats_of

_ROLES = {"kv_producer": "prefill", "kv_consumer": "decode"}


class Vllm:
    """The engine."""

    name = "vllm"

    def write(self, launch: Launch, pool: Pool) -> Written:
        """`vllm serve MODEL` with every decision of the pool."""
        formats = formats_of(launch, pool, engine_flags(self.name))
        notes = list(formats.notes)
        words = ["vllm", "serve", launch.model]
        for flag, degree in (
            ("--tensor-parallel-size", pool.tp),
            ("--pipeline-parallel-size", pool.pp),
            ("--data-parallel-size", pool.dp),
            ("--prefill-context-parallel-size", pool.cp),
        ):
            if degree > 1 or flag == "--tensor-parallel-size":
                words += [flag, str(degree)]
        if has_experts(launch.published) and pool.stage_chips > 1:
            words += self._experts(launch, pool, notes)
        for flag, text in (
            ("--quantization", formats.quantization),
            ("--dtype", formats.dtype),
            ("--kv-cache-dtype", formats.cache),
            ("--max-num-seqs", pool.max_batch or ""),
            ("--max-num-batched-tokens", pool.max_batched_tokens or ""),
            ("--gpu-memory-utilization", f"{pool.memory_frac:.12g}" if pool.memory_frac else ""),
            ("--max-model-len", launch.context_tokens or ""),
        ):
            words += [flag, str(text)] if text else []
        words += ["--enable-prefix-caching"] if pool.finds_prefixes else []
        words += ["--enable-dbo"] if pool.half_batches else []
        if pool.draft_tokens:
            method = "mtp" if launch.published.drafts else "ngram"
            words += ["--speculative-config", _json(method=method, num_speculative_tokens=pool.draft_tokens)]
            notes += [] if launch.published.drafts else [Note(column="draft_tokens", text=NO_HEADS)]
        if pool.role:
            side = {role: name for name, role in _ROLES.items()}[pool.role]
            words += ["--kv-transfer-config", _json(kv_connector="NixlConnector", kv_role=side)]
        return Written(words=tuple(words), notes=tuple(notes))

    def listen(self, port: int) -> tuple[str, ...]:
        """The server's port; it listens on all addresses by default."""
        return ("--port", str(port))

    def spread(self, hosts: int, rank: str, leader: str) -> tuple[str, ...]:
        """One of several hosts; all but the first serve nobody."""
        words = ("--nnodes", str(hosts), "--node-rank", rank, "--master-addr", leader)
        return words if rank == "0" else (*words, "--headless")

    def read(self, values: Values) -> PoolRead:
        """The pool of a `vllm serve`."""
        model, columns, notes = read_alike(self.name, values)
        degrees = {use: values.number(use, 1.0) for use in ("tp", "pp", "dp", "cp")}
        columns |= degrees
        stage = degrees["tp"] * degrees["dp"] * degrees["cp"]
        if values.on("experts") and (model is None or has_experts(model)):
            columns |= {"ep": stage, "moe_tp": 1.0}
        elif model is not None and has_experts(model):
            columns |= {"ep": 1.0, "moe_tp": stage}
        columns |= self._drafts(values, notes)
        return PoolRead(model=values.text("model"), role=self._role(values), columns=columns, notes=tuple(notes))

    def _experts(self, launch: Launch, pool: Pool, notes: list[Note]) -> list[str]:
        ranks = pool.stage_chips
        whole = pool.ep == ranks
        if not whole and pool.moe_tp != ranks:
            experts, inter = expert_sizes(launch.published)
            whole = ranks <= experts
            if not whole and inter % ranks:
                what = f"vLLM can neither spread {experts} experts over {ranks} ranks nor cut them so often"
                raise PlanError(what, at="ep", got=f"ep {pool.ep} moe_tp {pool.moe_tp}", fix="lower tp, dp or cp")
            way = "spread over all" if whole else "cut over all"
            text = (
                f"vLLM spreads experts over all {ranks} ranks or cuts them over all, not ep {pool.ep} x "
                f"moe_tp {pool.moe_tp}: {way} is written"
            )
            notes += [Note(column="ep", text=text), Note(column="moe_tp", text=text)]
        return ["--enable-expert-parallel"] if whole else []

    def _drafts(self, values: Values, notes: list[Note]) -> dict[str, float]:
        given = values.found.get("speculation")
        settings = dict(given.value) if given is not None else {}  # type: ignore[arg-type]
        method = str(settings.get("method") or values.text("spec_method"))
        tokens = settings.get("num_speculative_tokens", values.number("spec_tokens"))
        if not settings and not values.number("spec_tokens") and not method:
            return {}
        return draft_columns(tokens, method, values.at("speculation") or values.at("spec_tokens"), notes)

    def _role(self, values: Values) -> str:
        transfer = values.found.get("transfer")
        side = dict(transfer.value).get("kv_role", "") if transfer is not None else ""  # type: ignore[arg-type]
        mode = values.text("disaggregation")
        if mode in ("prefill", "decode"):
            return mode
        if values.on("is_prefill") or values.on("is_decode"):
            return "prefill" if values.on("is_prefill") else "decode"
        return _ROLES.get(str(side), "")


NO_HEADS = "the model has no draft heads: prompt lookup is written; name a draft model in its place if you have one"


def draft_columns(tokens: object, method: str, at: str, notes: list[Note]) -> dict[str, float]:
    """Speculation as columns, with a note on what is not in the launch."""
    if (
        isinstance(tokens, bool)
        or not isinstance(tokens, int | float)
        or not 0 < tokens < 1000
        or tokens != int(tokens)
    ):
        text = f"speculation ({method or 'no method'}) without a number of tokens at {at}: none is predicted"
        notes.append(Note(column="draft_tokens", text=text))
        return {}
    text = f"drafts by {method or 'the engine'}; how many are accepted is the traffic's: give acceptance_frac"
    notes.append(Note(column="acceptance_frac", text=text))
    return {"draft_tokens": float(tokens)}


def _json(**settings: object) -> str:
    return json.dumps(settings)
