"""Kubernetes and KServe accept the files in deploy/, and the files agree with each other."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app import __version__
from app.settings import PREFIX, Settings
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]
BASE, OVERLAY = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "kubernetes-overlay"
IMAGE = f"jepa-serve:{__version__}"
USER = int(re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0])
# `preStop` with `sleep` came with 1.30.
VERSIONS = ("1.30", "1.37")


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


KUSTOMIZATION = read(BASE / "kustomization.yaml")
RESOURCES = {read(BASE / name)["kind"]: read(BASE / name) for name in KUSTOMIZATION["resources"]}
POD = RESOURCES["Deployment"]["spec"]["template"]["spec"]
RUNTIME = read(ROOT / "deploy" / "kserve" / "serving-runtime.yaml")
INFERENCE_SERVICE = read(ROOT / "deploy" / "kserve" / "inference-service.yaml")
CONTAINERS = [POD["containers"][0], RUNTIME["spec"]["containers"][0]]
each_container = pytest.mark.parametrize("container", CONTAINERS, ids=["Deployment", "ServingRuntime"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", RESOURCES)
def test_each_resource_is_one_that_kubernetes_takes(kind: str, version: str) -> None:
    assert kubernetes_validate.validate(RESOURCES[kind], version, strict=True) == version


def test_the_kustomization_has_every_file_beside_it_and_the_version_of_the_project() -> None:
    files = {path.name for path in BASE.iterdir()} - {"kustomization.yaml"}
    assert {*KUSTOMIZATION["resources"]} == files
    assert KUSTOMIZATION["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
    assert KUSTOMIZATION["images"] == [{"name": CONTAINERS[0]["image"], "newTag": __version__}]
    assert CONTAINERS[1]["image"] == f"{CONTAINERS[0]['image']}:{__version__}"


# Of both folders, as kustomize puts them together.
KUBECTL = shutil.which("kubectl")
with_kubectl = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


def built(folder: Path) -> dict[str, dict[str, Any]]:
    """The resources by kind."""
    command = [str(KUBECTL), "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@with_kubectl
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [BASE, OVERLAY], ids=["base", "overlay"])
def test_what_kustomize_makes_is_what_kubernetes_takes(folder: Path, version: str) -> None:
    resources = built(folder)
    assert resources.keys() >= RESOURCES.keys()
    for resource in resources.values():
        kubernetes_validate.validate(resource, version, strict=True)


@with_kubectl
def test_the_base_has_the_image_that_is_built() -> None:
    (container,) = built(BASE)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["image"] == read(ROOT / "docker-compose.yml")["services"]["jepa"]["image"]
    assert f"docker build -t {IMAGE} ." in (ROOT / "README.md").read_text()


@with_kubectl
def test_the_overlay_has_a_registry_and_mounts_the_claim_as_the_models_folder() -> None:
    resources = built(OVERLAY)
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert re.fullmatch(rf"registry\.example\.com/\S+/{re.escape(IMAGE)}", container["image"])
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables.keys() == {"JEPA_API_KEYS", "JEPA_MODELS"}
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert mounts.keys() == {"tmp", "models"}
    assert (mounts["models"]["mountPath"], mounts["models"]["readOnly"]) == (variables["JEPA_MODELS"], True)
    volumes = {each["name"]: each for each in pod["volumes"]}
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == resources["PersistentVolumeClaim"]["metadata"]["name"]
    assert {each["metadata"]["namespace"] for each in resources.values()} == {"games"}


def test_the_resources_find_the_pods() -> None:
    deployment = RESOURCES["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["Service"]["spec"]["selector"] == labels
    assert RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == labels
    target = RESOURCES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"name": deployment["metadata"]["name"]} | {key: deployment[key] for key in ("apiVersion", "kind")}
    (port,) = CONTAINERS[0]["ports"]
    assert port["containerPort"] == Settings.model_fields["port"].default
    (rule,) = RESOURCES["NetworkPolicy"]["spec"]["ingress"]
    assert RESOURCES["Service"]["spec"]["ports"][0]["targetPort"] == rule["ports"][0]["port"] == port["name"]


def test_what_is_in_flight_when_a_pod_goes_is_answered() -> None:
    sleeps = CONTAINERS[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > sleeps + Settings.model_fields["graceful_timeout_s"].default
    assert RESOURCES["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@each_container
@pytest.mark.anyio
async def test_each_probe_is_answered(container: dict[str, Any], models: Path) -> None:
    probes = [probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")]
    assert {probe["port"] for probe in probes} <= {"http", container["ports"][0]["containerPort"]}
    async with serving(models=models) as client:
        for probe in probes:
            assert (await client.get(probe["path"])).status_code == 200


@each_container
def test_the_environment_holds_settings_alone(container: dict[str, Any]) -> None:
    assert {each["name"] for each in container["env"]} <= {PREFIX + name.upper() for name in Settings.model_fields}
    # With service links, Kubernetes would announce the service jepa-serve to its pods in JEPA_SERVE_PORT.
    assert POD["enableServiceLinks"] is INFERENCE_SERVICE["spec"]["predictor"]["enableServiceLinks"] is False


@each_container
def test_a_pod_may_do_what_serving_takes_and_no_more(container: dict[str, Any]) -> None:
    context = container["securityContext"] | POD["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, USER)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()
    assert POD["automountServiceAccountToken"] is False
    assert RESOURCES["NetworkPolicy"]["spec"]["egress"] == []


def test_kserve_finds_the_runtime_and_the_model() -> None:
    """Checks the fields that KServe reads; the files were checked against KServe's schemas when they were written."""
    spec, predictor = RUNTIME["spec"], INFERENCE_SERVICE["spec"]["predictor"]
    assert (RUNTIME["apiVersion"], RUNTIME["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    assert (INFERENCE_SERVICE["apiVersion"], INFERENCE_SERVICE["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert predictor["model"]["runtime"] == RUNTIME["metadata"]["name"]
    (taken,) = spec["supportedModelFormats"]
    assert predictor["model"]["modelFormat"].items() <= taken.items()
    assert predictor["model"]["protocolVersion"] in spec["protocolVersions"]
    assert CONTAINERS[1]["name"] == "kserve-container"
    environment = {each["name"]: each["value"] for each in CONTAINERS[1]["env"]}
    # KServe puts what lies at storageUri here.
    assert environment["JEPA_MODELS"] == "/mnt/models"
    assert int(environment["JEPA_PORT"]) == CONTAINERS[1]["ports"][0]["containerPort"]
    assert predictor["scaleMetric"] == "concurrency"
    assert predictor["minReplicas"] < predictor["maxReplicas"]
