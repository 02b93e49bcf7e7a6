"""Every column of the case tables, declared once: type, unit, default and meaning.

The command line's flags, the checks of a table's values, the documentation and the web form are made from these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NUMBER, TEXT = "number", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One input column.

    Attributes:
        kind: number or text.
        unit: dimension that `core.units` reads for flags with units ("" for plain counts).
        default: the meaning of an absent column or an empty cell; None if the case must give it.
        lowest, highest: closed range of legal numbers; `whole` asks for integers.
        choices: legal texts, if they are few.
    """

    name: str
    kind: str
    doc: str
    default: float | str | None = None
    unit: str = ""
    lowest: float = 0.0
    highest: float = 1e15
    whole: bool = False
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _count(name: str, doc: str, default: float | None = None, *, lowest: float = 1.0, **more: object) -> Column:
    return Column(name=name, kind=NUMBER, doc=doc, default=default, lowest=lowest, whole=True, **more)  # type: ignore[arg-type]


def _text(name: str, doc: str, default: str | None = "", **more: object) -> Column:
    return Column(name=name, kind=TEXT, doc=doc, default=default, **more)  # type: ignore[arg-type]


_WHERE = (
    _text("chip", "chip of the catalogue", None, aliases=("gpu", "system")),
    _text("runtime", "whose kernels and scheduler", "vllm", aliases=("backend",)),
    _text(
        "runtime_version", "version of the runtime; empty is the newest known", aliases=("version", "backend_version")
    ),
)

_NODE = _text(
    "node", "node of the catalogue that holds the chips; empty: the chip's default node", aliases=("topology",)
)

_POOL = ("workers", "tp", "pp", "dp", "ep", "moe_tp", "batch")

DEGREES = ("tp", "pp", "dp", "ep", "moe_tp", "cp")
STEP_SHARES = frozenset(
    {
        *("model", "chip", "node", "runtime", "runtime_version", "clock_frac"),
        *("weights", "activations", "kv", "moe_weights", "nano_batches"),
        *DEGREES,
    }
)
"""Columns that `predict step` has in common with `predict serving`."""

SERVING: tuple[Column, ...] = (
    _text(
        "model", "bundled name, path to a config.json or its folder, or hub:OWNER/NAME", None, aliases=("model_path",)
    ),
    *_WHERE,
    _NODE,
    _text("weights", "format of the weights; empty: as published"),
    _text("activations", "format in which activations enter matmuls; empty: as the weights ask"),
    _text("kv", "format of the KV cache; empty: as published, or as the runtime has it", aliases=("kv_dtype",)),
    _text("moe_weights", "format of the expert weights; empty: as `weights`"),
    _text("mode", "one pool (agg) or separate prefill and decode pools (disagg)", "agg", choices=("agg", "disagg")),
    _count("tp", "tensor parallelism", 1, aliases=("tp_size",)),
    _count("pp", "pipeline stages", 1, aliases=("pp_size",)),
    _count("dp", "attention data parallelism", 1, aliases=("attention_dp_size",)),
    _count("ep", "expert parallelism; 0: what moe_tp leaves", 0, lowest=0, aliases=("moe_ep_size",)),
    _count("moe_tp", "tensor parallelism of the experts; 0: what ep leaves", 0, lowest=0, aliases=("moe_tp_size",)),
    _count("cp", "context parallelism of prompts", 1),
    _count("replicas", "equal replicas that share the load", 1),
    *(
        _count(
            f"{pool}_{name}",
            f"{name} of the {pool} pool (disagg)",
            0 if name in ("ep", "moe_tp", "batch") else 1,
            lowest=0 if name in ("ep", "moe_tp", "batch") else 1,
        )
        for pool in ("prefill", "decode")
        for name in _POOL
    ),
    _text("trace", "requests that are simulated (a trace or a traffic file), instead of isl, osl and concurrency"),
    *(
        Column(name=name, kind=NUMBER, doc=f"mean {side} tokens per request", lowest=1.0)
        for name, side in (("isl", "prompt"), ("osl", "output"))
    ),
    Column(name="concurrency", kind=NUMBER, doc="requests in flight over the deployment", default=0.0),
    Column(
        name="request_rate_per_s", kind=NUMBER, doc="arrivals per second", default=0.0, unit="1/s", aliases=("rate",)
    ),
    _text("load", "`saturated`: as many requests in flight as memory and runtime allow", choices=("", "saturated")),
    Column(
        name="prefix_hit_frac", kind=NUMBER, doc="share of prompt tokens found in the cache", default=0.0, highest=1.0
    ),
    _count("draft_tokens", "speculated tokens per step (MTP, draft model)", 0, lowest=0),
    Column(
        name="acceptance_frac", kind=NUMBER, doc="chance that a drafted token is accepted", default=0.7, highest=1.0
    ),
    _count("nano_batches", "half batches of a step at once, where that is faster (2: as NanoFlow does)", 1, highest=2),
    _text("attention_chip", "chip of the catalogue that holds the cache and runs its decode attention; empty: `chip`"),
    _count("attention_chips", "of each replica, beside those of its plan", 0, lowest=0),
    _count("attention_batches", "that rotate between both kinds of chips, where that is faster", 1, highest=64),
    Column(
        name="attention_link_bytes_per_s",
        kind=NUMBER,
        doc="of each chip to those of the other kind, one direction; 0: the links of the catalogue that span both",
        default=0.0,
        unit="byte/s",
    ),
    Column(
        name="attention_latency_s",
        kind=NUMBER,
        doc="of an exchange over that link; -1: of the catalogue",
        default=-1.0,
        unit="s",
        lowest=-1.0,
    ),
    _count("max_batch", "sequences per iteration; 0: the runtime's default", 0, lowest=0),
    _count("max_batched_tokens", "tokens per iteration; 0: the runtime's default", 0, lowest=0),
    Column(
        name="memory_frac", kind=NUMBER, doc="share of memory given to the engine; 0: default", default=0.0, highest=1.0
    ),
    _text("procedure", "how TTFT and TPOT are measured", "steady"),
    Column(
        name="clock_frac",
        kind=NUMBER,
        doc="share of the full clock to which chips are locked",
        default=1.0,
        lowest=0.25,
        highest=1.0,
    ),
    Column(name="power_cap_w", kind=NUMBER, doc="power limit of each chip; 0: its own", default=0.0, unit="w"),
    Column(
        name="chip_temperature_c",
        kind=NUMBER,
        doc="of its dies, degrees Celsius: what they leak; at 60 power is as it was measured",
        default=60.0,
        lowest=0.0,
        highest=105.0,
    ),
    _text("site", "site of the catalogue: energy at the meter, carbon and water there"),
)

STEP: tuple[Column, ...] = (
    _text("phase", "prefill (new prompts) or decode (one token each)", "decode", choices=("prefill", "decode")),
    *(column for column in SERVING if column.name in STEP_SHARES),
    _count("batch", "sequences in the step, per data-parallel rank", 1),
    _count("tokens", "new tokens per prompt (prefill)", 1),
    _count("context", "tokens already cached per sequence", 0, lowest=0),
)

OPS: tuple[Column, ...] = (
    _text("kind", "what is computed", None, aliases=("table",)),
    *_WHERE,
    _text("kernel", "name of the measured kernel, if the case states one"),
    _text(
        "weights_cache", "weights stream from memory (cold) or rotate in cache (hot)", "cold", choices=("cold", "hot")
    ),
    _text("dtype", "number format of the operands", "bf16"),
    _text("kv_dtype", "number format of the cache", ""),
    _text("gemm_dtype", "number format of an MLA module's linear layers", ""),
    _text("op", "variant: attention, mla, mla_module; or the collective", ""),
    _text("distribution", "skew of expert loads: balanced, random or power_law_ALPHA", "balanced"),
    _NODE,
    *(
        _count(name, doc, default, lowest=0)
        for name, doc, default in (
            ("m", "rows of A and C", 0),
            ("n", "columns of B and C", 0),
            ("k", "columns of A", 0),
            ("batch", "independent problems or sequences", 1),
            ("isl", "new tokens per sequence", 0),
            ("prefix", "cached tokens per sequence", 0),
            ("kv_len", "keys per sequence, the new one included", 0),
            ("heads", "query heads on this rank", 0),
            ("kv_heads", "key/value heads on this rank; 0: as heads", 0),
            ("head_dim", "width of a head; 0: the latent of DeepSeek-V3", 0),
            ("window", "sliding window; 0 is full attention", 0),
            ("tokens", "tokens offered to the layer", 0),
            ("hidden", "hidden width", 0),
            ("inter", "inner width of an expert before it is cut", 0),
            ("topk", "experts per token", 0),
            ("experts", "experts of the layer", 0),
            ("tp", "tensor parallelism of the experts", 1),
            ("ep", "expert parallelism", 1),
            ("num_chips", "ranks of a collective", 0),
            ("message_bytes", "buffer of a collective or copy", 0),
            ("elements", "elements of an element-wise op", 0),
            ("vocab", "rows of an embedding table", 0),
            ("in_channels", "channels in", 0),
            ("out_channels", "channels out", 0),
            ("in_size", "pixels along one side of the input", 0),
            ("out_size", "pixels along one side of the output; 0: in_size / stride", 0),
            ("kernel_size", "taps along one side", 0),
            ("stride", "stride of a convolution", 1),
            ("groups", "groups of a convolution", 1),
            ("dims", "spatial dimensions of a convolution", 2),
            ("state", "state width of a scan", 0),
            ("length", "points of a transform", 0),
        )
    ),
)
OPS = tuple(
    Column(**{**{f: getattr(c, f) for f in c.__slots__}, "aliases": ("num_gpus",)}) if c.name == "num_chips" else c
    for c in OPS
)

TRAINING: tuple[Column, ...] = (
    _text("model", "bundled model or network over images, or a path to its file; or give the shape columns"),
    *(
        _count(name, doc, 0, lowest=0)
        for name, doc in (
            ("layers", "layers"),
            ("hidden", "hidden width"),
            ("heads", "attention heads"),
            ("kv_heads", "key/value heads; 0: as heads"),
            ("ffn_hidden", "inner width of the feed-forward; 0: 4 x hidden"),
            ("vocab", "vocabulary"),
            ("experts", "experts per layer"),
            ("topk", "experts per token"),
            ("expert_hidden", "inner width of an expert"),
            ("shared_experts", "shared experts"),
        )
    ),
    _text("chip", "chip of the catalogue", None, aliases=("gpu",)),
    _text("node", "node of the catalogue that holds the chips, or a file of one's own; empty: the chip's default node"),
    _text("islands", 'unlike machines with a pipeline over them: "16x h100-sxm + 32x a100-80gb-sxm"'),
    _text("between", 'link of a chip to the next island: "12.5 GB/s" or "1 GB/s, 30 ms"; empty: the slower network'),
    _text("network", "between nodes: fat-tree or rail, 2:1, hashed or sprayed, scattered; empty: ports in full"),
    _count("chips", "chips of the whole run", None, aliases=("n_gpus",)),
    _count("seq", "tokens per sequence; networks over images have none", 0, lowest=0),
    _text("lengths", 'law of the tokens of documents: "lognormal(mean=2k, sigma=1)"; empty: all have seq'),
    _text("batches", "of unequal documents: packed into rows (usual), padded to rows, or adaptive: ranks for each"),
    _count("resolution", "pixels along one side of images; 0: the network's own", 0, lowest=0),
    *(
        _count(name, f"{doc}; 0: the framework's habit", 0, lowest=0)
        for name, doc in (
            ("global_batch", "sequences per step"),
            ("micro_batch", "sequences per micro-batch"),
            ("tp", "tensor parallelism"),
            ("pp", "pipeline stages"),
            ("dp", "data parallelism, or what the others leave"),
            ("cp", "context parallelism"),
            ("ep", "expert parallelism"),
            ("vp", "virtual pipeline stages"),
        )
    ),
    _text("precision", "bf16, fp16, fp8, mxfp8, nvfp4, ...", "bf16"),
    _text("sequence_parallel", "whether norms are cut along the sequence (true, false)"),
    _text("zero", "ZeRO stage, 0 to 3, or fsdp", aliases=("zero_stage",)),
    _text("recompute", "activations computed again: none, selective, full, or modules"),
    _text("offload", "what leaves device memory: none, optimizer, params, nvme or cxl"),
    _text("flash", "whether attention is fused (true, false)"),
    _text("lora", "whether only low-rank adapters are trained: true, false, or qlora (frozen weights in 4 bits)"),
    _text("trained", 'layers that learn: all, head, "last 4"; of images also "biases 16" or "biases 16, 36 41:0.25"'),
    _text("captured", "whether the step is captured in a device graph (true, false)"),
    _text("schedule", "of the pipeline: 1f1b (interleaved with vp), gpipe, zero-bubble or dualpipe"),
    _text("context", "how context parallelism exchanges: ring, all-to-all or both"),
    _count("shard", "ranks that share model state; 0: all of dp x cp", 0, lowest=0),
    _text("zero_options", "of ZeRO++: hpz, qwz, qgz"),
    Column(
        name="stack_share",
        kind=NUMBER,
        doc="speed of this stack over the model's, from calibrate_training; 0: as fitted",
        default=0.0,
    ),
    _text("framework", "whose training stack; empty: a generic one"),
    _text("framework_version", "its release", aliases=("version",)),
)

TRAINING_RUNS: tuple[Column, ...] = (
    _text("tokens", 'of the whole run: "15T"'),
    _text("duration", 'of it without anything going wrong, instead of tokens: "30 d"'),
    _text("checkpoint", "sync, async (copied to the host behind the compute) or none", "async"),
    _text("interval", "work between checkpoints; empty: the optimum"),
    _text("storage", 'of the store: "2 TB/s"; empty: a published one'),
    _count("spares", "nodes that wait", 0, lowest=0),
    _text("short", "without a spare: wait for the node, or shrink to those that are left", "wait"),
    _text("mtbf", 'of one chip with its share of everything else: "50000 h"; empty: published rates by part'),
    _text("repair", "until a failed node is back; empty: a day"),
    _text("detect", "until a failure is noticed; empty: 10 minutes"),
    _text("restart", "until steps run again; empty: 10 minutes"),
    _text("law", "scaling law of the loss: epoch or chinchilla", "epoch"),
    _count("runs", "how often it is played", 200),
    _count("seed", "of the first", 0, lowest=0),
)
"""What says how a training run goes, beside the columns of a case."""

VISION: tuple[Column, ...] = (
    _text("model", "bundled network name, or a path to .onnx or .pt2", None),
    _count("resolution", "pixels along one side; 0: the network's own", 0, lowest=0),
    _count("batch", "images per step", 1),
    _text("precision", "number format", "fp16"),
    _text("chip", "chip of the catalogue", None, aliases=("gpu",)),
    _text("runtime", "whose kernels: torch, torch.compile, tensorrt", "torch", aliases=("framework",)),
    _text("compiled", "eager, compiled or engine; empty: as the runtime does"),
    _text("layout", "memory layout of images: nchw or nhwc", "nchw"),
    _text("mode", "inference or training", "inference", choices=("inference", "training", "infer", "train")),
    Column(name="gmacs", kind=NUMBER, doc="10^9 multiply-accumulates per image, of a network not bundled", default=0.0),
    Column(
        name="macts_m", kind=NUMBER, doc="10^6 values that its convolutions and matmuls give per image", default=0.0
    ),
    Column(name="params_m", kind=NUMBER, doc="its 10^6 parameters", default=0.0),
)

LOADS: tuple[Column, ...] = (
    _text("trace", "requests: a trace, or a traffic file (.yaml)"),
    _text("arrivals", 'a process: "poisson(5/s)", "gamma(5/s, cv=2)", "closed(64)", ...'),
    _text("prompt", 'law of the prompt tokens, instead of isl: "lognormal(mean=1024, sigma=0.8)", ...'),
    _text("output", "law of the output tokens, instead of osl"),
    _text("adapters", 'law of the numbers of LoRA adapters: "uniform(1, 64)", "zipf(100, 1)", ...'),
    _text("models", 'law of the numbers of models that take turns: "uniform(1, 20)", "zipf(150, 1)", ...'),
    _count("requests", "only so many requests; 0: all", 0, lowest=0),
    Column(name="duration_s", kind=NUMBER, doc="only arrivals before; 0: all", default=0.0, unit="s"),
    Column(name="ttft_slo_s", kind=NUMBER, doc="objective: time to first token; 0: none", default=0.0, unit="s"),
    Column(name="tpot_slo_s", kind=NUMBER, doc="objective: time per output token; 0: none", default=0.0, unit="s"),
    Column(name="e2e_slo_s", kind=NUMBER, doc="objective: time to the last token; 0: none", default=0.0, unit="s"),
    _count("seed", "of every random draw", 0, lowest=0),
)
"""What says which requests come, beside the columns of a case."""

FLEETS: tuple[Column, ...] = (
    _text("scheduler", "order of waiting requests: fcfs, priority, shortest, fair, deadline, rotation, ...", "fcfs"),
    _text("router", "which lane takes a request: least-loaded, round-robin, prefix, session, ...", "least-loaded"),
    _text("kept", 'what a sequence keeps of its cache: full, "budget(2048)", ...', "full"),
    _text("eviction", "order in which cached prefixes leave: lru, lfu, fifo", "lru"),
    _text("tiers", 'stores of evicted prefixes: "host(capacity=512GB, bandwidth=50GB/s) + nvme(...)"'),
    _text(
        "batching",
        "whether requests enter at any iteration, or only when a whole batch is done",
        "continuous",
        choices=("continuous", "static"),
    ),
    _text("preemption", "of sequences that the cache cannot hold", "recompute", choices=("recompute", "swap")),
    Column(
        name="swap_call_s",
        kind=NUMBER,
        doc="host time of each copy of a swapped block, one per layer for keys and one for values; 0: all in one copy",
        default=0.0,
        unit="s",
    ),
    Column(
        name="watermark_frac", kind=NUMBER, doc="share of the cache that admission keeps free", default=0.0, highest=0.9
    ),
    _count("longest_chunk", "tokens of one prompt per iteration; 0: the token budget", 0, lowest=0),
    _count("longest", "tokens of prompt and output that are served; 0: no limit", 0, lowest=0),
    _count("lora_rank", "of each adapter that requests name", 16),
    _count("lora_slots", "distinct adapters in an iteration", 8),
    _count("lora_cache", "adapters on a chip; 0: lora_slots", 0, lowest=0),
    _text("lora_targets", "projections with adapters", "attention", choices=("attention", "all")),
    _count("models_cache", "models that stay in the memory of a chip, of those that requests name", 1),
    _count("models_host", "models that host memory holds; 0: as many as fit", 0, lowest=0),
    _text("models_eviction", "order in which models leave the memory of a chip: lru, lfu, fifo", "lru"),
    _text("autoscaler", 'how many of the replicas are up: "queue(target=4, minimum=1)", slo(...), ...'),
    Column(
        name="cold_start_s",
        kind=NUMBER,
        doc="of a replica; -1: its weights from load_from",
        default=-1.0,
        unit="s",
        lowest=-1.0,
    ),
    _text(
        "load_from", 'where a replica\'s weights come from: host, nvme, network, or a rate per chip ("10 GB/s")', "host"
    ),
    _text("failures", 'of replicas: "random(mtbf=10h, repair=10min)"'),
    _text("fleet", "pools of different machines and roles: a fleet file (.yaml)"),
    Column(
        name="phase_split_frac",
        kind=NUMBER,
        doc="share of each chip's compute units that prompts have for themselves; 0: batches are mixed",
        default=0.0,
        highest=0.99,
    ),
    _text("roles", 'replicas that change between prefill and decode: "balance(interval=10s)"'),
    Column(
        name="switch_s",
        kind=NUMBER,
        doc="time of a change of role; -1: none where both roles have one plan, else its weights from load_from",
        default=-1.0,
        unit="s",
        lowest=-1.0,
    ),
    _text("rebalance", 'running requests that move between lanes: "free-cache(interval=1s)", "freeness(low=100)"'),
)
"""What says how a fleet is run; names in them are policies."""

TASKS: Mapping[str, tuple[Column, ...]] = {
    "ops": OPS,
    "step": STEP,
    "serving": SERVING,
    "training": TRAINING,
    "vision": VISION,
}
