"""cluster/kuberay.yaml against the fields of KubeRay's RayJob that it may use.

Checked once, whole, against the definition itself (KubeRay 1.7.0, ray.io_rayjobs.yaml, unknown
fields refused); it is a megabyte, so what is kept here is this file's part of it.
"""

from __future__ import annotations

import copy
from pathlib import Path

import jsonschema
import pytest
import yaml

CLUSTER = Path(__file__).resolve().parent.parent.parent / "cluster"


def fields(required: str = "", **properties) -> dict:
    """A mapping with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def items(schema: dict) -> dict:
    return {"type": "array", "items": schema, "minItems": 1}


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(m|Ki|Mi|Gi|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
CONTAINER = fields(
    "name image",
    name=TEXT,
    image=TEXT,
    resources=fields("limits requests", limits=QUANTITIES, requests=QUANTITIES),
    volumeMounts=items(fields("name mountPath", name=TEXT, mountPath=TEXT)),
)
POD = fields(
    "spec",
    spec=fields(
        "containers",
        serviceAccountName=TEXT,
        terminationGracePeriodSeconds=COUNT,
        tolerations=items(
            fields(key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect=TEXT)
        ),
        containers=items(CONTAINER),
        volumes=items(fields("name", name=TEXT, emptyDir=fields(medium=TEXT, sizeLimit=QUANTITY))),
    ),
)
CLUSTER_SPEC = fields(
    "headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=fields("mode", mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=COUNT),
    headGroupSpec=fields("template", rayStartParams=TEXTS, template=POD),
    workerGroupSpecs=items(
        fields(
            "groupName minReplicas maxReplicas template",
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        )
    ),
)
RAY_JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields("name", name=TEXT),
    spec=fields(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER_SPEC,
    ),
)


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())


def test_the_job_has_known_fields_of_the_right_kind_only(job):
    jsonschema.validate(job, RAY_JOB)


@pytest.mark.parametrize(
    "harm",
    [
        lambda spec: spec.update(entrypiont="x"),
        lambda spec: spec.update(submissionMode="K8sJob"),
        lambda spec: spec["rayClusterSpec"].update(enableInTreeAutoscaling="yes"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplicas="16"),
        lambda spec: spec["rayClusterSpec"]["headGroupSpec"].update(rayStartParams={"num-cpus": 0}),
    ],
)
def test_a_typo_is_refused(job, harm):
    harmed = copy.deepcopy(job)
    harm(harmed["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(harmed, RAY_JOB)


def test_volumes_ports_and_scale_fit_together(job):
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            assert container["resources"]["limits"] == container["resources"]["requests"]
    worker = cluster["workerGroupSpecs"][0]
    assert worker["minReplicas"] == 0 < worker["maxReplicas"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" in str(worker["template"])
    assert cluster["authOptions"]["mode"] == "token"
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    script = job["spec"]["entrypoint"].split()[1]
    assert script == "/opt/prunegrid/orchestrator/main.py"
    assert "COPY --chown=ray . /opt/prunegrid" in dockerfile
