"""The UI in a real browser: a scientist fills in the backfill's form, and reads what it answers."""

import shutil

import pytest
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.wait import WebDriverWait

SIZE = "--window-size=1400,1600"


@pytest.fixture
def browser(installation):
    """Open Chromium without a screen, logged in with the server's password by its own form."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Debian's chromium and chromium-driver: .ci/debian.sh installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # As root Chromium has no sandbox; in a container /dev/shm is small.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", SIZE):
        options.add_argument(flag)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as opened:
        log_in(opened, installation.server)
        yield opened


def log_in(browser, server):
    browser.get(f"{server.address}/v2/login")
    field = wait_for(browser, (By.CSS_SELECTOR, "input[type=password]"))
    field.send_keys(server.password, Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda it: "login" not in it.current_url)


def wait_for(browser, place, *, within_s=120):
    return WebDriverWait(browser, within_s).until(seen.visibility_of_element_located(place))


def find_field(browser, name):
    """Find what a label of the form belongs to, as a screen reader does."""
    label = wait_for(browser, (By.XPATH, f"//label[starts-with(normalize-space(), '{name}')]"))
    return browser.find_element(By.ID, label.get_attribute("for"))


def open_artifact(browser, key):
    """Go from a run's page to an artifact: its card, then the newest of its versions."""
    wait_for(browser, card(key)).click()
    wait_for(browser, (By.CSS_SELECTOR, "a[href*='/artifacts/artifact/']")).click()


def card(key):
    return By.XPATH, f"//h3[text()='{key}']"


def text(browser):
    return browser.find_element(By.TAG_NAME, "body").text


@pytest.fixture
def look(browser, tmp_path_factory, record_property):
    """Keep a picture of the page; a report of the tests (--junit-xml) names it."""
    folder = tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(exist_ok=True)

    def keep(name):
        path = folder / f"{name}.png"
        assert browser.save_screenshot(path)
        record_property("screenshot", str(path))

    return keep


@pytest.mark.timeout(1200)
def test_a_dry_run_from_the_backfills_form_answers_with_a_plan(
    installation, ingested, browser, look
):
    site = f"{installation.server.address}/v2"
    deployment = installation.client.read_deployment_by_name("backfill/backfill")
    browser.get(f"{site}/deployments/deployment/{deployment.id}/run")
    root = find_field(browser, "root")
    form = text(browser)
    for name, asked in deployment.parameter_openapi_schema["properties"].items():
        assert name in form
        assert asked["description"] in form

    root.send_keys(Keys.CONTROL, "a")
    root.send_keys(ingested.root)
    find_field(browser, "dry_run").click()
    look("backfill-form")
    browser.find_element(By.XPATH, "//button[normalize-space()='Submit']").click()
    wait_for(browser, (By.PARTIAL_LINK_TEXT, "View"))
    (run,) = runs_of(installation, deployment, root=ingested.root)
    ended = installation.end_of(run)
    assert ended.state.is_completed(), ended.state.message
    assert ended.name == "classical of all plates (dry run)"

    browser.get(f"{site}/runs/flow-run/{run.id}?tab=Artifacts")
    wait_for(browser, card("backfill-plan"))
    look("backfill-run")
    open_artifact(browser, "backfill-plan")
    wait_for(browser, (By.XPATH, "//td[normalize-space()='Plate2']"))
    look("backfill-plan")
    assert "Plates to embed: 2; published already: 0" in text(browser)
    assert not list(ingested.published("embeddings")), "a dry run computes nothing"


def runs_of(installation, deployment, *, root):
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    runs = installation.client.read_flow_runs(deployment_filter=chosen)
    return [run for run in runs if run.parameters["root"] == root]


@pytest.mark.timeout(1200)
def test_a_plates_pages_show_its_verdict_and_its_picture(installation, first_night, browser, look):
    (landing,) = installation.children(first_night)
    artifacts = f"{installation.server.address}/v2/runs/flow-run/{landing.id}?tab=Artifacts"
    browser.get(artifacts)
    wait_for(browser, card("qc-batch1-plate1"))
    look("landing-run")
    open_artifact(browser, "qc-batch1-plate1")
    wait_for(browser, (By.XPATH, "//h1[starts-with(., 'Batch1/Plate1: ')]"))
    look("plate-qc")
    assert "Wells to look at" in text(browser)

    browser.get(artifacts)
    open_artifact(browser, "heatmap-batch1-plate1")
    picture = wait_for(browser, (By.CSS_SELECTOR, "img[alt='Batch1/Plate1']"))
    look("plate-heatmap")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 500
