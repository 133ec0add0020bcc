"""Stands for prove_pod.py in the container of a pod that KWOK plays, where nothing runs: KWOK's `exec` starts this.

inside.py KUBECONFIG NAMESPACE < request

It checks what a pod would: that the request is one of prove_pod.py and its key the Secret's. It answers as a vLLM would
that runs as the pod's own command line says, read from the API server: what did not reach the pod is not proven. The
script itself is run with the same kind of request by test/kubernetes/pod-together.test.ts.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import urllib.request


def main(kubeconfig: str, namespace: str) -> int:
    request = json.loads(sys.stdin.readline())
    with open(kubeconfig, encoding="utf8") as file:
        document = json.load(file)
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])

    def get(kind: str) -> list[dict]:
        url = f"{cluster['server']}/api/v1/namespaces/{namespace}/{kind}"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {user['token']}"})
        with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
            return json.load(answer)["items"]

    keys = next(item for item in get("secrets") if item["metadata"]["name"].endswith("-keys"))
    if base64.b64decode(keys["data"]["apiKey"]).decode() != request["apiKey"]:
        print("the gateway answers 401 to /v1/models with the key — expected: 200", file=sys.stderr)
        return 43
    print(f"asking for a token on port {request['servingPort']}", file=sys.stderr)
    (pod,) = get("pods")
    serving = next(one for one in pod["spec"]["containers"] if one["name"] == "serving")
    arguments = serving["args"]

    def option(name: str, otherwise: int) -> int:
        return int(arguments[arguments.index(name) + 1]) if name in arguments else otherwise

    size, replicas = option("--tensor-parallel-size", 1), option("--data-parallel-size", 1)
    workers = [{"pid": 100 + rank, "rank": rank, "gpuIndex": rank} for rank in range(size * replicas)]
    proof = {
        "generated": {"text": "Paris", "tokens": 2, "seconds": 0.1},
        "models": [request["model"]],
        "maxModelLen": option("--max-model-len", 0),
        "tensorParallel": size,
        "replicas": replicas,
        "workers": workers,
        "gpus": [],
    }
    print(json.dumps(proof))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
