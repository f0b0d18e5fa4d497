"""The client behind real programs: nginx, and mitmproxy as the proxy of a company."""
