"""RunPod (REST v2, GraphQL) and Lambda Cloud: stateful, priced, held to the vendors' specifications.

`state` is the clouds themselves, asked in requests and replies that are plain values; `server` puts them on loopback.
"""
