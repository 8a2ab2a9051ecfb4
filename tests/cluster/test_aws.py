"""cluster/gpu.yaml and its stack in a simulated AWS (moto): Ray's own code rents the machines."""

from __future__ import annotations

import copy

import pytest
import yaml

from tests.cluster.test_files import CLUSTER, read

REGION = read("gpu")["provider"]["region"]


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """An account with the stack of aws-roles.yaml in it, and a home for Ray's key pair."""
    moto = pytest.importorskip("moto")
    import boto3

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "for-a-simulated-account")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        with moto.mock_aws():
            boto3.client("cloudformation", REGION).create_stack(
                StackName="prunegrid",
                TemplateBody=(CLUSTER / "aws-roles.yaml").read_text(),
                Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "lab"}],
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
            yield lambda service: boto3.client(service, REGION)


@pytest.fixture(scope="module")
def rented(account):
    """EC2's view of a head and of one worker of each type, as Ray rents them."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.tags import (
        TAG_RAY_LAUNCH_CONFIG,
        TAG_RAY_NODE_KIND,
        TAG_RAY_NODE_NAME,
        TAG_RAY_NODE_STATUS,
        TAG_RAY_USER_NODE_TYPE,
    )

    config = bootstrap_aws(prepare_config(read("gpu")))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node in config["available_node_types"].items():
        tags = {
            TAG_RAY_NODE_KIND: "head" if name == "head" else "worker",
            TAG_RAY_NODE_NAME: f"ray-prunegrid-{name}",
            TAG_RAY_NODE_STATUS: "uninitialized",
            TAG_RAY_LAUNCH_CONFIG: "x",
            TAG_RAY_USER_NODE_TYPE: name,
        }
        provider.create_node(copy.deepcopy(node["node_config"]), tags, 1)
    out = {}
    for reservation in account("ec2").describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            out[tags[TAG_RAY_USER_NODE_TYPE]] = instance | {"tags": tags}
    return out


def test_the_head_is_kept_and_workers_are_spot(rented):
    assert set(rented) == {"head", "l4-spot", "a10g-spot"}
    assert {name: i.get("InstanceLifecycle") for name, i in rented.items()} == {
        "head": None,
        "l4-spot": "spot",
        "a10g-spot": "spot",
    }


def test_each_machine_has_its_role_and_hands_it_to_nobody_by_accident(rented):
    for name, instance in rented.items():
        role = "prunegrid-head" if name == "head" else "prunegrid-worker"
        assert instance["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/{role}")
        assert instance["MetadataOptions"]["HttpTokens"] == "required"


def test_only_ssh_is_open_from_outside(account, rented):
    groups = {g["GroupId"] for i in rented.values() for g in i["SecurityGroups"]}
    assert len(groups) == 1
    (group,) = account("ec2").describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert group["GroupName"] == "prunegrid"
    for rule in group["IpPermissions"]:
        if rule["IpRanges"] or rule["Ipv6Ranges"]:
            assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")
        else:
            assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} == groups


def statements(account, role: str) -> list[dict]:
    iam = account("iam")
    found = []
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        found.append(document["Document"])
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        found.append(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
    out = []
    for document in found:
        read_one = yaml.safe_load(document) if isinstance(document, str) else document
        out += read_one["Statement"]
    return out


def test_workers_may_use_the_bucket_and_nothing_else(account):
    for statement in statements(account, "prunegrid-worker"):
        assert all(resource.startswith("arn:aws:s3:::lab") for resource in [statement["Resource"]])
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert action.startswith("s3:")


def test_the_head_may_end_machines_of_this_cluster_only(account, rented):
    tag, value = "ray-cluster-name", read("gpu")["cluster_name"]
    assert rented["l4-spot"]["tags"][tag] == value
    for statement in statements(account, "prunegrid-head"):
        if "ec2:TerminateInstances" in statement["Action"]:
            assert statement["Condition"] == {"StringEquals": {f"aws:ResourceTag/{tag}": value}}
        if statement["Action"] == "iam:PassRole":
            assert statement["Resource"].endswith("role/prunegrid-worker")


def test_the_bucket_is_private_and_outlives_the_stack():
    """From the template: moto passes over both."""
    text = (CLUSTER / "aws-roles.yaml").read_text()
    bucket = text[text.index("  Store:") : text.index("  UseStore:")]
    assert "DeletionPolicy: Retain" in bucket
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    assert all(f"{block}: true" in bucket for block in blocks)
