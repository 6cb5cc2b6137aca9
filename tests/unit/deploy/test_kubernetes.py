"""The manifest of the scheduler, checked against the image and against the programs that it names.

There is no cluster here: that Kubernetes accepts it is not shown.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli import main

ROOT = Path(__file__).parents[3]
IMAGE = (ROOT / "deploy/Dockerfile").read_text()


@pytest.fixture(scope="module")
def deployment() -> dict:
    return YAML(typ="safe").load(ROOT / "deploy/kubernetes/scheduler.yaml")


@pytest.fixture
def pod(deployment: dict) -> dict:
    return deployment["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict) -> dict:
    (container,) = pod["containers"]
    return container


def test_a_standby_runs_beside_it(deployment: dict) -> None:
    assert deployment["spec"]["replicas"] >= 2
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_it_runs_what_the_image_holds_and_asks_a_program_that_there_is(container: dict) -> None:
    probe = container["livenessProbe"]["exec"]["command"]

    assert 'ENTRYPOINT ["pipeline"]' in IMAGE
    assert container["args"] == ["scheduler"]
    for command in (container["args"], probe[1:]):
        assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0
    assert probe[0] == "pipeline"


def test_it_is_the_user_of_the_image_and_writes_only_where_that_may(pod: dict, container: dict) -> None:
    user, group = map(int, re.search(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE).groups())  # type: ignore[union-attr]

    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (user, group)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/tmp", re.search(r"PIPELINE_DATA_DIR=(\S+)", IMAGE)[1]}  # type: ignore[index]


def test_no_secret_stands_in_it(container: dict) -> None:
    assert "env" not in container
    assert container["envFrom"] == [{"secretRef": {"name": "pipeline"}}]
