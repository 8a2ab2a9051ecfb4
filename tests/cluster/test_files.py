"""The cluster files against Ray's schema, the clouds' own request shapes, and the repository."""

from __future__ import annotations

import copy
import functools
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CLUSTER = ROOT / "cluster"
NAMES = ("gpu", "gcp", "onprem")
CLOUDS = ("gpu", "gcp")
#: Ray's schema lets any key into `provider`; these are the ones that its providers read.
PROVIDER_KEYS = {
    "aws": {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"},
    "gcp": {"type", "region", "availability_zone", "project_id"},
    "local": {"type", "head_ip", "worker_ips"},
}
#: Of an instance as GCP's compute.instances.insert takes it; the value: keys one level below.
GCP_INSTANCE = {
    "machineType": None,
    "scheduling": {"provisioningModel", "instanceTerminationAction", "onHostMaintenance"},
    "disks": {"boot", "autoDelete", "type", "initializeParams"},
    "metadata": {"items"},
    "serviceAccounts": {"email", "scopes"},
}


def read(name: str) -> dict:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def check(config: dict) -> dict:
    """As `ray up` checks and completes it; whatever it refuses is raised."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    unknown = set(config["provider"]) - PROVIDER_KEYS[config["provider"]["type"]]
    if unknown:
        raise ValueError(f"provider: unknown {sorted(unknown)}")
    return prepared


@pytest.mark.parametrize("name", NAMES)
def test_ray_takes_the_file(name):
    prepared = check(read(name))
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda config: config.update(max_worker=3), "'max_worker' was unexpected"),
        (lambda config: config["provider"].update(regoin="x"), "regoin"),
        (lambda config: config["auth"].update(user="x"), "'user' was unexpected"),
        (lambda config: config.update(idle_timeout_minutes=-1), "-1 is less than the minimum"),
    ],
)
def test_a_typo_is_refused(name, harm, message):
    config = read(name)
    harm(config)
    with pytest.raises(Exception, match=message):
        check(config)


@functools.cache
def run_instances():
    """The input shape of EC2's RunInstances, as boto3 has it."""
    from botocore.session import Session

    return Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def aws_problems(node_config: dict) -> list[str]:
    """What boto3 would refuse to send as RunInstances, and values that EC2 has no name for."""
    from botocore.validate import ParamValidator

    shape = run_instances()
    request = {"MinCount": 1, "MaxCount": 1, **node_config}
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] * report.has_errors() + list(_unnamed(request, shape, ""))


def _unnamed(value, shape, path):
    if shape.type_name == "structure":
        for key in set(value) & set(shape.members):
            yield from _unnamed(value[key], shape.members[key], f"{path}.{key}")
    elif shape.type_name == "list":
        for item in value:
            yield from _unnamed(item, shape.member, path)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r}"


def test_ec2_takes_every_node_of_gpu_yaml():
    for name, node in read("gpu")["available_node_types"].items():
        assert aws_problems(node["node_config"]) == [], name


@pytest.mark.parametrize(
    "harm",
    [
        {"InstanceTyp": "g6.xlarge"},
        {"InstanceType": "g6.xlagre"},
        {"InstanceMarketOptions": {"MarketType": "spott"}},
        {"MetadataOptions": {"HttpToken": "required"}},
        {"BlockDeviceMappings": [{"Ebs": {"VolumeSize": "120"}}]},
    ],
)
def test_a_wrong_node_of_ec2_is_seen(harm):
    node = read("gpu")["available_node_types"]["l4-spot"]["node_config"]
    assert aws_problems(node | harm)


def test_nodes_of_gcp_have_known_keys_only():
    for name, node in read("gcp")["available_node_types"].items():
        for key, value in node["node_config"].items():
            assert key in GCP_INSTANCE, f"{name}: {key}"
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    assert set(part) <= GCP_INSTANCE[key], f"{name}.{key}"


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_spot_gpus_that_come_and_go_and_the_head_runs_no_task(name):
    config = check(read(name))
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert 0 < worker["max_workers"] <= config["max_workers"]
        assert "spot" in str(worker["node_config"]).lower()
    assert config["provider"].get("cache_stopped_nodes", False) is False


@pytest.mark.parametrize("name", NAMES)
def test_every_mounted_file_is_here_and_the_mounts_can_be_installed(name):
    mounts = read(name)["file_mounts"]
    local = {remote: path for remote, path in mounts.items() if not path.startswith("~")}
    for path in local.values():
        assert (ROOT / path).exists(), path
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "requirements.lock", "cluster", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        links = [path for path in (ROOT / package).iterdir() if path.is_symlink()]
        assert links, "the package's halves stand outside it"
        needed |= {Path(package).parts[0]}
        needed |= {path.resolve().relative_to(ROOT).as_posix() for path in links}
    assert {f"~/prunegrid/{item}" for item in needed} <= set(mounts)
    assert mounts["~/grid.yaml"] == "grid.yaml", "a command's paths are relative to the home"
    assert mounts["~/grids"] == "grids"


@pytest.mark.parametrize("name", NAMES)
def test_a_cluster_asks_for_its_token_and_its_dashboard_is_on_loopback(name):
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "setup_node.sh").read_text()
    start = next(c for c in config["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        if "ray start" in command:
            assert command.startswith("unset OMP_NUM_THREADS;"), "every worker would inherit it"


@pytest.mark.parametrize(
    "path", sorted(p for p in CLUSTER.glob("*") if p.is_file()), ids=lambda path: path.name
)
def test_no_file_holds_a_secret_or_opens_a_port_to_the_world(path):
    text = path.read_text()
    assert "0.0.0.0" not in text
    secret = r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY"
    secret += r"|(password|secret|token)\s*[:=]\s*['\"]?\w{16}"
    assert not re.search(secret, text, re.IGNORECASE)


def test_versions_agree():
    lock = (ROOT / "requirements.lock").read_text()
    version = re.search(r"^ray==(\S+)", lock, re.MULTILINE)
    assert version is not None
    assert read("kuberay")["spec"]["rayClusterSpec"]["rayVersion"] == version[1]
    assert f"rayproject/ray:{version[1]}-" in (CLUSTER / "Dockerfile").read_text()


def commands(config: dict) -> list[str]:
    return [c for key, value in config.items() if key.endswith("_commands") for c in value]


@pytest.mark.parametrize("name", NAMES)
def test_commands_name_scripts_and_extras_that_there_are(name):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    config = read(name)
    found = re.findall(r"~/prunegrid/(\S+)((?: [a-z0-9]+)*)", "\n".join(commands(config)))
    assert found
    for script, arguments in found:
        assert (ROOT / script).is_file(), script
        if script.endswith("setup_node.sh"):
            assert set(arguments.split()) <= set(extras)
    assert {"cluster", "mnist5k"} <= set(extras), "what every node gets"


@pytest.mark.parametrize(("name", "cloud"), [("gpu", "aws"), ("gcp", "gcp")])
def test_a_cloud_installs_gpu_libraries_and_watches_for_its_own_notice(name, cloud):
    config = read(name)
    setup, start = config["worker_setup_commands"], config["worker_start_ray_commands"]
    assert any(c.endswith("setup_node.sh gpu") for c in setup)
    assert any(f"spot_notice.py {cloud} " in c for c in start)
    assert any(c.endswith(f"setup_node.sh {cloud}") for c in config["head_setup_commands"])
