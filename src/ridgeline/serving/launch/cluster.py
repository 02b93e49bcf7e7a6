"""Kubernetes objects, llm-d values and a Dynamo graph around an engine's command."""

from __future__ import annotations

from typing import Any

from ridgeline.core.errors import SpecError
from ridgeline.serving.launch.deployment import Launch, Note, Pool
from ridgeline.serving.launch.engine import Engine, Written
from ridgeline.serving.launch.facts import fact
from ridgeline.serving.launch.flags import EngineFlags, engine_flags
from ridgeline.serving.launch.registry import ENGINES
from ridgeline.serving.launch.text import heading, shared_notes, shell_words, slug, yaml_text
from ridgeline.serving.shelf import documents

_CONFIG = "/config"
_LEADER, _INDEX = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
_SHELL_LEADER, _SHELL_INDEX = '"$LWS_LEADER_ADDRESS"', '"$LWS_WORKER_INDEX"'


class Kubernetes:
    """A Deployment per pool, or a LeaderWorkerSet where a worker spans hosts, and a Service before each."""

    def write(self, launch: Launch) -> tuple[dict[str, str], list[Note]]:
        """One manifest."""
        engine, notes = _engine(launch)
        objects: list[Any] = []
        for pool in launch.pools:
            written = ENGINES[engine.name].write(launch, pool)
            notes += written.notes
            objects += self._objects(launch, pool, written, engine)
        notes += _cluster_notes(launch, engine)
        if launch.split:
            text = "a router that sends each request to the prefill Service, then to the decode Service, is not written"
            notes.append(Note(column="", text=text))
        return {"manifest.yaml": yaml_text(objects, heading(launch, engine, notes))}, notes

    def _objects(self, launch: Launch, pool: Pool, written: Written, engine: EngineFlags) -> list[Any]:
        name = _name(launch, pool)
        labels = {"app.kubernetes.io/name": slug(launch.model), "app.kubernetes.io/instance": name}
        labels |= {"app.kubernetes.io/component": pool.role} if pool.role else {}
        hosts = launch.hosts(pool)
        found: list[Any] = _config_map(name, labels, written)
        port = fact("serving_port")
        pod = _pod(launch, pool, written, name, fact("images")[engine.name], hosts)
        words = _escaped(written.words, written)
        own = ENGINES[engine.name]
        if hosts == 1:
            pod["containers"][0] |= {"command": [*words, *own.listen(port)], **_served(port)}
            spec = {"replicas": pool.workers, "selector": {"matchLabels": labels}}
            template = {"metadata": {"labels": labels}, "spec": pod}
            head = {"apiVersion": "apps/v1", "kind": "Deployment"}
            found.append({**head, "metadata": _meta(name, labels), "spec": {**spec, "template": template}})
        else:
            found.append(_group(pool, pod, name, labels, (words, own), hosts))
            labels = {**labels, "role": "leader"}
        ports = [{"name": "http", "port": port, "targetPort": port}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": _meta(name, labels)}
        found.append({**service, "spec": {"selector": labels, "ports": ports}})
        return found


class Llmd:
    """Values of the llm-d model service chart; the command is its custom one, so that every flag is ours."""

    def write(self, launch: Launch) -> tuple[dict[str, str], list[Note]]:
        """One file of values."""
        engine, notes = _engine(launch)
        if engine.name == "trtllm":
            what = f"llm-d's chart has no place for the file of options that {engine.title} needs"
            raise SpecError(what, at="target", got="llm-d", fix="use kubernetes or dynamo, or another runtime")
        if engine.name != "vllm":
            text = f"llm-d's routing sidecar and metrics are made for vLLM; {engine.title} runs as a custom command"
            notes.append(Note(column="", text=text))
        port, behind = fact("serving_port"), fact("llmd_port")
        values: dict[str, Any] = {
            "multinode": any(launch.hosts(pool) > 1 for pool in launch.pools),
            "modelArtifacts": {"name": launch.model, "uri": f"hf://{launch.model}", "authSecretName": "hf-token"},
            "accelerator": {"type": launch.vendor.casefold()},
            "routing": {"servicePort": port, "proxy": {"enabled": launch.split, "targetPort": behind}},
        }
        for pool in launch.pools:
            written = ENGINES[engine.name].write(launch, pool)
            notes += written.notes
            side = pool.role or "decode"
            values[side] = self._section(launch, pool, written, behind if pool.role == "decode" else port, engine)
        values.setdefault("prefill", {"create": False, "replicas": 0})
        notes += _cluster_notes(launch, engine)
        return {"values.yaml": yaml_text([values], heading(launch, engine, notes))}, notes

    def _section(self, launch: Launch, pool: Pool, written: Written, port: int, engine: EngineFlags) -> dict[str, Any]:
        hosts, own = launch.hosts(pool), ENGINES[engine.name]
        pod = _pod(launch, pool, written, engine.name, fact("images")[engine.name], hosts)
        container = pod["containers"][0]
        command = [*_escaped(written.words, written), *own.listen(port)]
        if hosts > 1:
            command = ["/bin/sh", "-c", _either(command, own, hosts)]
        container |= {"modelCommand": "custom", "command": command, "args": [], "mountModelVolume": True}
        local = max(pool.dp // hosts, 1)
        section: dict[str, Any] = {
            "create": True,
            "replicas": pool.workers,
            "parallelism": {"tensor": pool.tp, "data": pool.dp, "dataLocal": local, "workers": hosts},
        }
        product = fact("products").get(launch.chip)
        if product:
            section["acceleratorTypes"] = {"labelKey": fact("product_label"), "labelValues": [product]}
        return {**section, "containers": [container], "volumes": pod["volumes"]}


class Dynamo:
    """A DynamoGraphDeployment: a front end, and a component per pool."""

    def write(self, launch: Launch) -> tuple[dict[str, str], list[Note]]:
        """One manifest."""
        engine, notes = _engine(launch)
        image = fact("dynamo_images")[engine.name]
        front: dict[str, Any] = {"name": "main", "image": image, "command": ["python3", "-m", "dynamo.frontend"]}
        front["args"] = ["--http-port", str(fact("serving_port"))]
        components: list[Any] = [_component("Frontend", "frontend", 1, {"containers": [front]})]
        objects: list[Any] = []
        for pool in launch.pools:
            written = ENGINES[engine.name].write(launch, pool)
            notes += written.notes
            hosts = launch.hosts(pool)
            pod = _pod(launch, pool, written, _name(launch, pool), image, hosts)
            command = ["python3", "-m", f"dynamo.{engine.name}"]
            pod["containers"][0] |= {"name": "main", "command": command, "args": self._words(pool, written, engine)}
            component = _component(pool.role or "worker", pool.role or "worker", pool.workers, pod)
            components.append({**component, "multinode": {"nodeCount": hosts}} if hosts > 1 else component)
            objects += _config_map(_name(launch, pool), {}, written)
        head = {"apiVersion": fact("api")["dynamo"], "kind": "DynamoGraphDeployment"}
        spec = {"backendFramework": engine.name, "components": components}
        objects.append({**head, "metadata": {"name": slug(launch.model)}, "spec": spec})
        notes += _cluster_notes(launch, engine)
        return {"dynamo.yaml": yaml_text(objects, heading(launch, engine, notes))}, notes

    def _words(self, pool: Pool, written: Written, engine: EngineFlags) -> list[str]:
        words = _escaped(written.words, written)
        role = ["--disaggregation-mode", pool.role] if pool.role else []
        if engine.name == "vllm":
            return ["--model", *words[2:], *role]
        if engine.name == "sglang":
            return words[3:]
        spellings: dict[str, str] = documents("launch/engines")[engine.name].data["dynamo"]
        found = ["--model-path", words[1]]
        for flag, value in zip(words[2::2], words[3::2], strict=True):
            found += [spellings[flag], value] if spellings[flag] else []
        return [*found, *role]


def _engine(launch: Launch) -> tuple[EngineFlags, list[Note]]:
    engine = engine_flags(launch.runtime if launch.runtime in ENGINES else "vllm")
    return engine, shared_notes(launch, engine)


def _name(launch: Launch, pool: Pool) -> str:
    return f"{slug(launch.model)}-{pool.role}" if pool.role else slug(launch.model)


def _meta(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": labels} if labels else {"name": name}


def _escaped(words: tuple[str, ...], written: Written) -> list[str]:
    """Words as a container takes them: a dollar is doubled, and options lie in the mounted folder."""
    found = [word.replace("$", "$$") for word in words]
    return [f"{_CONFIG}/{word}" if word == written.options_name and word else word for word in found]


def _served(port: int) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 10, "failureThreshold": 360}
    return {"ports": [{"name": "http", "containerPort": port}], "readinessProbe": probe}


def _pod(launch: Launch, pool: Pool, written: Written, name: str, image: str, hosts: int) -> dict[str, Any]:
    """A pod's specification, its command left open."""
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - shared memory of the container
    volumes: list[Any] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    if written.options_name:
        mounts.append({"name": "config", "mountPath": _CONFIG})
        volumes.append({"name": "config", "configMap": {"name": f"{name}-options"}})
    container: dict[str, Any] = {"name": "engine", "image": image, "volumeMounts": mounts}
    if pool.role and "--kv-transfer-config" in written.words:
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        container["env"] = [{"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": address}]
    resource = fact("resources").get(launch.vendor)
    if resource:
        chips = {resource: str(pool.chips // hosts)}
        container["resources"] = {"limits": chips, "requests": chips}
    pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
    product = fact("products").get(launch.chip)
    if product:
        pod["nodeSelector"] = {fact("product_label"): product}
    return pod


def _config_map(name: str, labels: dict[str, str], written: Written) -> list[Any]:
    if not written.options_name:
        return []
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(f"{name}-options", labels)}
    return [{**head, "data": {written.options_name: written.options}}]


def _component(name: str, kind: str, replicas: int, pod: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "type": kind, "replicas": replicas, "podTemplate": {"spec": pod}}


def _group(
    pool: Pool, pod: dict[str, Any], name: str, labels: dict[str, str], command: tuple[list[str], Engine], hosts: int
) -> dict[str, Any]:
    """A LeaderWorkerSet: each group is one worker, its first pod serves."""
    (words, engine), port = command, fact("serving_port")
    start = [*words, *engine.listen(port)]
    container = pod["containers"][0]
    if engine.name == "trtllm":
        mpi = ["mpirun", "--allow-run-as-root", "-n", str(pool.chips), "trtllm-llmapi-launch"]
        first, others = [*mpi, *start], ["sleep", "infinity"]
    else:
        first = [*start, *engine.spread(hosts, "0", _LEADER)]
        others = [*start, *engine.spread(hosts, _INDEX, _LEADER)]
    leader = {**pod, "containers": [{**container, "command": first, **_served(port)}]}
    worker = {**pod, "containers": [{**container, "command": others}]}
    template = {
        "size": hosts,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": {"labels": {**labels, "role": "leader"}}, "spec": leader},
        "workerTemplate": {"metadata": {"labels": labels}, "spec": worker},
    }
    head = {"apiVersion": fact("api")["lws"], "kind": "LeaderWorkerSet", "metadata": _meta(name, labels)}
    return {**head, "spec": {"replicas": pool.workers, "leaderWorkerTemplate": template}}


def _either(words: list[str], engine: Engine, hosts: int) -> str:
    """Shell text for a template that leader and workers share."""
    raw = (_SHELL_LEADER, _SHELL_INDEX)
    leader = shell_words([*words, *engine.spread(hosts, "0", _SHELL_LEADER)], raw=raw)
    worker = shell_words([*words, *engine.spread(hosts, _SHELL_INDEX, _SHELL_LEADER)], raw=raw)
    index = '"${LWS_WORKER_INDEX:-0}"'
    return f"if [ {index} -eq 0 ]; then\n  exec {leader}\nelse\n  exec {worker}\nfi\n"


def _cluster_notes(launch: Launch, engine: EngineFlags) -> list[Note]:
    notes = []
    if launch.vendor not in fact("resources"):
        text = f"no device plugin for {launch.vendor} is known: the pods ask for no chips"
        notes.append(Note(column="", text=text))
    if launch.chip not in fact("products"):
        text = f"no node label for {launch.chip} is known: choose the nodes yourself"
        notes.append(Note(column="chip", text=text))
    if engine.name == "trtllm" and any(launch.hosts(pool) > 1 for pool in launch.pools):
        text = "MPI starts the ranks of other pods; it needs its own way in (a list of hosts, ssh)"
        notes.append(Note(column="", text=text))
    return notes
