"""The agent's configuration: Nomad's keys, from HCL and JSON files merged in order.

    config = load_config(["/etc/serai.d", "extra.hcl"])     # SourceError names the line
    config = merge(AgentConfig.defaults(), config)
    refusals = check_safety(config, is_dev=False, insecure=False)
"""
