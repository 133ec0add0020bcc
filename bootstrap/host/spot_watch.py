"""Waits for EC2's notice that it takes a spot machine back, and acts on it once: two minutes are left then.

Usage: spot_watch.py FOLDER COMMAND...
  FOLDER/notice.json   is written when the notice comes: {"action", "time", "seenAt"}
  COMMAND              is run then: it stops training, which keeps a checkpoint of every job

The notice stands in the instance's metadata (EC2 User Guide, "Spot Instance interruption notices"), which is asked with
a session token (IMDSv2). AWS_EC2_METADATA_SERVICE_ENDPOINT puts another address in its place. What can't be asked is
asked again.
"""

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

ADDRESS = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
TOKEN_SECONDS = 21600
LOOK_SECONDS = float(os.environ.get("TANDEM_SPOT_LOOK_SECONDS", "5"))
# The address is the machine's own: no proxy knows it.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(folder, command):
    token = None
    while True:
        try:
            token = token or new_token()
            notice = read_notice(token)
        except urllib.error.HTTPError as error:
            # 401: the token has run out.
            token, notice = (None if error.code == 401 else token), None
        except (OSError, ValueError, http.client.HTTPException):
            notice = None
        if notice is not None:
            act(folder, command, notice)
            return
        time.sleep(LOOK_SECONDS)


def new_token():
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
    request = urllib.request.Request(f"{ADDRESS}/latest/api/token", method="PUT", headers=headers)
    with OPENER.open(request, timeout=2) as answer:
        return answer.read().decode()


def read_notice(token):
    """What EC2 is about to do and when; None as long as it leaves the machine alone."""
    address = f"{ADDRESS}/latest/meta-data/spot/instance-action"
    request = urllib.request.Request(address, headers={"X-aws-ec2-metadata-token": token})
    try:
        with OPENER.open(request, timeout=2) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def act(folder, command, notice):
    """The mark first: it is there even when the machine goes before training has stopped."""
    seen = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    draft = os.path.join(folder, "notice.json.draft")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump({"action": notice.get("action", ""), "time": notice.get("time", ""), "seenAt": seen}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, os.path.join(folder, "notice.json"))
    what = f"{notice.get('action')} at {notice.get('time')}"
    print(f"EC2 takes this machine back ({what}): stopping training", flush=True)
    subprocess.run(command, check=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
