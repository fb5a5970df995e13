"""Sends every example of an endpoint through the client that `openapi-python-client` made; runs in its environment.

python generated_client.py FOLDER URL      prints {"/embed": [[status, kind of answer], …], …}
"""

import json
import sys
from importlib import import_module
from urllib.request import urlopen

folder, url = sys.argv[1:]
sys.path.insert(0, folder)
made = import_module("jepa_serve_client")
schemas = import_module("jepa_serve_client.models")
client = made.Client(base_url=url)
paths = json.load(urlopen(url + "/openapi.json"))["paths"]
answers = {"/models": [[200, type(import_module("jepa_serve_client.api.models.models").sync(client=client)).__name__]]}
for path, methods in paths.items():
    content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
    if "examples" not in content:
        continue
    endpoint = import_module("jepa_serve_client.api.inference." + path.removeprefix("/"))
    request = getattr(schemas, content["schema"]["$ref"].rpartition("/")[2])
    for example in content["examples"].values():
        answer = endpoint.sync_detailed(client=client, body=request.from_dict(example["value"]))
        answers.setdefault(path, []).append([answer.status_code, type(answer.parsed).__name__])
print(json.dumps(answers))
