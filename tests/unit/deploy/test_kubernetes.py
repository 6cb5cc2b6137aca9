"""The manifests, checked against the image and against the programs that they name.

There is no cluster here: that Kubernetes accepts them is not shown.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli import main
from pipeline.cli.web import STOP_SECONDS
from pipeline.settings import Settings

ROOT = Path(__file__).parents[3]
IMAGE = (ROOT / "deploy/Dockerfile").read_text()
PROGRAMS = ("scheduler", "web")


def manifest(program: str, kind: str) -> dict:
    documents = YAML(typ="safe").load_all(ROOT / f"deploy/kubernetes/{program}.yaml")
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def pod_of(program: str) -> dict:
    return manifest(program, "Deployment")["spec"]["template"]["spec"]


def container_of(program: str) -> dict:
    (container,) = pod_of(program)["containers"]
    return container


def test_each_manifest_is_checked() -> None:
    assert sorted(path.stem for path in (ROOT / "deploy/kubernetes").glob("*.yaml")) == sorted(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_runs_beside_it(program: str) -> None:
    spec = manifest(program, "Deployment")["spec"]

    assert spec["replicas"] >= 2
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_runs_what_the_image_holds(program: str) -> None:
    assert 'ENTRYPOINT ["pipeline"]' in IMAGE
    assert container_of(program)["args"] == [program]
    assert CliRunner().invoke(main, [program, "--help"]).exit_code == 0


def test_the_scheduler_is_asked_by_a_program_that_there_is() -> None:
    name, *arguments = container_of("scheduler")["livenessProbe"]["exec"]["command"]

    assert name == "pipeline"
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_the_user_of_the_image_and_writes_only_where_that_may(program: str) -> None:
    pod, container = pod_of(program), container_of(program)
    user, group = map(int, re.search(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE).groups())  # type: ignore[union-attr]

    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (user, group)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/tmp", re.search(r"PIPELINE_DATA_DIR=(\S+)", IMAGE)[1]}  # type: ignore[index]


@pytest.mark.parametrize(("program", "secret"), [("scheduler", "pipeline"), ("web", "pipeline-web")])
def test_no_secret_stands_in_it(program: str, secret: str) -> None:
    container = container_of(program)
    secrets = {name for name, field in Settings.model_fields.items() if not field.repr}

    assert container["envFrom"] == [{"secretRef": {"name": secret}}]
    shown = {each["name"].removeprefix("PIPELINE_").lower() for each in container.get("env", [])}
    assert shown <= Settings.model_fields.keys() - secrets


def test_the_web_server_listens_where_the_service_and_the_probes_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    container = container_of("web")
    (port,) = container["ports"]
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"])

    assert not Settings().is_local
    assert Settings().http_port == port["containerPort"]
    service = manifest("web", "Service")["spec"]
    assert service["selector"] == manifest("web", "Deployment")["spec"]["selector"]["matchLabels"]
    probes = [container["readinessProbe"]["httpGet"], container["livenessProbe"]["httpGet"]]
    assert {each["targetPort"] for each in service["ports"]} == {probe["port"] for probe in probes} == {port["name"]}


def test_a_database_that_is_away_is_no_reason_to_start_a_web_server_again() -> None:
    container = container_of("web")

    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_stopping_web_server_has_the_time_it_may_take() -> None:
    sleep, seconds = container_of("web")["lifecycle"]["preStop"]["exec"]["command"]

    assert sleep == "sleep"
    assert pod_of("web")["terminationGracePeriodSeconds"] > int(seconds) + STOP_SECONDS
