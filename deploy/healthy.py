"""A container's health check: `python healthy.py PORT PATH` ends with 0 where something answers and is not broken.

Standard library only, and no import of ours: it runs every few seconds beside the program it looks at.
"""

import http.client
import sys


def healthy(port: int, path: str, timeout_s: float = 4.0) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not healthy(int(sys.argv[1]), sys.argv[2]))
