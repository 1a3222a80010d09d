"""Resources of log delivery.

Sources, destinations and deliveries. MiniStack has the API and delivers nothing.
"""

from eventstacks.local.ministack import Json, call


def _call(operation: str, **arguments: object) -> Json:
    return call("cloudwatch_logs", f"Logs_20140328.{operation}", **arguments)


def put_source(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a delivery source: one type of log of one resource."""
    if verb == "Delete":
        return name, _call("DeleteDeliverySource", name=name)
    given = {"resourceArn": props["ResourceArn"], "logType": props["LogType"]}
    return name, {"Arn": _call("PutDeliverySource", name=name, **given)["deliverySource"]["arn"]}


def put_destination(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a delivery destination, such as a log group."""
    if verb == "Delete":
        return name, _call("DeleteDeliveryDestination", name=name)
    answer = _call(
        "PutDeliveryDestination",
        name=name,
        outputFormat=props.get("OutputFormat", "json"),
        deliveryDestinationConfiguration={
            "destinationResourceArn": props["DestinationResourceArn"]
        },
    )
    return name, {"Arn": answer["deliveryDestination"]["arn"]}


def put_delivery(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Connect a source to a destination. ``name``: the ID of the delivery once it exists."""
    if verb == "Delete":
        return name, _call("DeleteDelivery", id=name)
    if verb == "Update":  # of tags or record fields, which MiniStack does not change
        return name, {"DeliveryId": name}
    keys = ("DeliverySourceName", "DeliveryDestinationArn")
    given = {key[0].lower() + key[1:]: props[key] for key in keys}
    delivery = _call("CreateDelivery", **given)["delivery"]
    return delivery["id"], {"DeliveryId": delivery["id"], "Arn": delivery["arn"]}
