"""nchan: nginx with its publish-subscribe module, in C, with an in-memory buffer of each channel."""

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from services.local.embedded import free_port
from tests.load.peers.peer import Arguments, Place, Running, Speech, serve

_MODULE = "ngx_nchan_module.so"
_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules", "/usr/local/lib/nginx")
_HOW = "needs nginx with its nchan module, as with: apt-get install nginx libnginx-mod-nchan"
_CONFIG = """\
load_module {module};
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  nchan_shared_memory_size 512M;
  client_body_temp_path temp_body; proxy_temp_path temp_proxy; fastcgi_temp_path temp_fastcgi;
  uwsgi_temp_path temp_uwsgi; scgi_temp_path temp_scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /pub {{
      nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 1000; nchan_message_timeout 10m;
    }}
    location = /sub {{
      nchan_subscriber websocket eventsource; nchan_channel_id $arg_id; nchan_subscriber_first_message newest;
    }}
    location = /suball {{
      nchan_subscriber websocket eventsource; nchan_channel_id $arg_id; nchan_subscriber_first_message oldest;
    }}
  }}
}}
"""


def _module() -> Path | None:
    return next((path for folder in _FOLDERS if (path := Path(folder) / _MODULE).exists()), None)


class Nchan:
    """The peer."""

    name = "nchan"

    def missing(self) -> str | None:
        """Debian has both as packages."""
        return _HOW if shutil.which("nginx") is None or _module() is None else None

    def start(self, stack: ExitStack, place: Place) -> Running:
        """One worker, published to by HTTP."""
        port = free_port()
        config = place.folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(module=_module(), user=user, port=port))
        command = ["nginx", "-e", "stderr", "-c", str(config), "-p", str(place.folder)]
        process = serve(stack, place, command, "nginx", port)

        def behind(count: int) -> Arguments:
            to = f"http://127.0.0.1:{port}/pub?id=c0"
            arguments = ["--port", str(port), "--path", "/sub?id=c0", "--pub", to, "--count", str(count)]
            command = [str(place.binary), *arguments, "--idle-end", "0.2"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return ("--path", "/suball?id=c0", "--order", "body")

        speeches = {
            "ws": Speech(("--path", "/sub?id=c%d"), "body"),
            "sse": Speech(("--mode", "sse", "--path", "/sub?id=c%d"), "body"),
        }
        return Running(port, f"http://127.0.0.1:{port}/pub?id=c%d", speeches, [process], behind)
