"""What is in deploy/ asks for metrics that the service has, and fits together."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.api.native.routes import ENDPOINTS
from app.main import create_app
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import client_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
pytestmark = pytest.mark.anyio

# What Prometheus itself knows of a target.
OF_PROMETHEUS = {"up"}


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "jepa-serve.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    return panels + [rule["expr"] for rule in rules]


async def test_every_metric_and_label_that_is_asked_for_exists(tmp_path: Path) -> None:
    TinyModel().write(tmp_path)
    async with client_of(create_app(Settings(models=tmp_path))) as client:
        await client.post("/embed", json={"features": [0.5] * 10})
        await client.post("/embed", json={"features": []})
        text = (await client.get("/metrics")).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions():
        for name, selector in re.findall(r"\b(jepa_\w+|process_\w+|up)\b(?:{([^}]*)})?", expression):
            assert name in labels.keys() | OF_PROMETHEUS, name
            asked = set(re.findall(r"(\w+)\s*=", selector)) - {"job"}
            assert asked <= labels.get(name, set()), name


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool")
def test_prometheus_takes_its_configuration_and_the_alerts(tmp_path: Path) -> None:
    rules, config = DEPLOY / "alerts.yml", tmp_path / "prometheus.yml"
    config.write_text((DEPLOY / "prometheus.yml").read_text().replace("/etc/prometheus/alerts.yml", str(rules)))
    for command in (["check", "rules", str(rules)], ["check", "config", str(config)]):
        done = subprocess.run([str(PROMTOOL), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_route_of_a_frame_is_in_what_is_watched() -> None:
    """Otherwise an endpoint that came later would be late without an alert."""
    routes = {handler.path for handler in ENDPOINTS} | {"/stream"}
    selected = [re.findall(r'route=~"([^"]*)"', expression) for expression in expressions()]
    named = [set(pattern.split("|")) for patterns in selected for pattern in patterns]
    assert named
    assert all(routes <= each for each in named)


def test_the_page_says_of_each_file_what_was_tried() -> None:
    page = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        assert f"`{path.name}{'/' * path.is_dir()}" in page or path.name == "README.md", path.name


def test_each_alert_has_a_severity_and_an_answer_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in page


def test_the_compose_file_mounts_what_there_is() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert "profiles" not in services["jepa"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]
        for volume in services[name]["volumes"]:
            assert (ROOT / volume.split(":")[0]).exists()
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    (found_by,) = scrape["dns_sd_configs"]
    assert (found_by["names"], found_by["type"], found_by["port"]) == (["jepa"], "A", 8000)
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "jepa-serve.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}


async def test_the_page_of_metrics_lists_every_metric(tmp_path: Path) -> None:
    TinyModel().write(tmp_path)
    async with client_of(create_app(Settings(models=tmp_path))) as client:
        text = (await client.get("/metrics")).text
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in re.findall(r"^# TYPE (jepa_\w+)", text, re.MULTILINE):
        assert f"`{name}`" in page, name


class Compose(yaml.SafeLoader):  # type: ignore[misc]
    """With the tag that takes away what the first file said."""


Compose.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def test_the_replicas_of_the_compose_file_are_those_that_nginx_asks() -> None:
    services = yaml.load((DEPLOY / "compose.replicas.yml").read_text(), Compose)["services"]
    jepa, balancer = services["jepa"], services["balancer"]
    assert jepa["ports"] == []  # which only one could have
    mounted = {volume.split(":")[1]: ROOT / volume.split(":")[0] for volume in balancer["volumes"]}
    configuration = mounted["/etc/nginx/nginx.conf"].read_text()
    (address,) = re.findall(r"^server (\S+)", mounted["/etc/nginx/replicas.conf"].read_text(), re.MULTILINE)
    assert address == "jepa:8000"
    assert f"listen {balancer['ports'][0].rsplit(':')[-1]};" in configuration
    kept = int(re.findall(r"keepalive_timeout (\d+)s;", configuration)[0])
    assert kept < Settings.model_fields["keep_alive_s"].default
    largest = int(re.findall(r"client_max_body_size (\d+)m;", configuration)[0]) * 2**20
    assert largest == Settings.model_fields["max_body_bytes"].default
