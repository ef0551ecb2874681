//! Links: what there is, and the two kinds that are made here.

use super::socket::{dump, is, to_io};
use futures::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, LinkWireguard};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What is known of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number in its namespace.
    pub(crate) index: u32,
    /// Its name in its namespace.
    pub(crate) name: String,
    /// `veth`, `bridge`…; empty for hardware.
    pub(crate) kind: String,
    /// Hardware address; empty if it has none.
    pub(crate) mac: Vec<u8>,
    /// The bridge that it is a port of.
    pub(crate) controller: Option<u32>,
    /// For a veth, the number of its other end in that end's namespace.
    pub(crate) peer: Option<u32>,
    /// Free text.
    pub(crate) alias: Option<String>,
    /// Whether it is set up.
    pub(crate) up: bool,
    /// Largest packet in bytes.
    pub(crate) mtu: u32,
    /// How it puts packets into others, if it is of that kind.
    pub(crate) vxlan: Option<Vxlan>,
    /// The group that it is in; 0 unless it was put into one.
    pub(crate) group: u32,
    /// What packets wait in before they leave by it: `noqueue`, `tbf`…
    pub(crate) queue: String,
}

/// How a device puts packets into others. It learns nothing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vxlan {
    /// The virtual network's number.
    pub(crate) vni: u32,
    /// UDP port of all ends.
    pub(crate) port: u16,
    /// The address of this end.
    pub(crate) local: IpAddr,
    /// Whether it learns after all.
    pub(crate) learns: bool,
}

/// A veth pair to make: this end up and in a bridge, the other in another namespace,
/// down (the kernel refuses to make it otherwise).
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    /// Name of this end.
    pub(crate) name: &'a str,
    /// Hardware address of this end.
    pub(crate) mac: [u8; 6],
    /// Index of the bridge that this end is put into.
    pub(crate) controller: u32,
    /// Name of the other end.
    pub(crate) peer_name: &'a str,
    /// Hardware address of the other end.
    pub(crate) peer_mac: [u8; 6],
    /// Largest packet of both in bytes; 0 leaves the kernel's.
    pub(crate) mtu: u32,
}

/// The link called `name`.
///
/// # Errors
/// The kernel's; that there is none is no error.
pub(crate) async fn find(handle: &Handle, name: &str) -> io::Result<Option<Link>> {
    one(handle.link().get().match_name(name)).await
}

/// The link of that number.
///
/// # Errors
/// The kernel's; that there is none is no error.
pub(crate) async fn of(handle: &Handle, index: u32) -> io::Result<Option<Link>> {
    one(handle.link().get().match_index(index)).await
}

async fn one(request: rtnetlink::LinkGetRequest) -> io::Result<Option<Link>> {
    match request.execute().try_next().await.map_err(to_io) {
        Ok(message) => Ok(message.map(|message| read(&message))),
        Err(error) if is(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list(handle: &Handle) -> io::Result<Vec<Link>> {
    let objects = dump(handle, RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
    let link =
        |object| if let RouteNetlinkMessage::NewLink(message) = object { Some(read(&message)) } else { None };
    Ok(objects.into_iter().filter_map(link).collect())
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "some sixty attributes, most of which concern nobody here"
        )]
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Qdisc(queue) => link.queue.clone_from(queue),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = kind(infos);
                link.vxlan = vxlan(infos);
            }
            _ => {}
        }
    }
    link
}

fn kind(infos: &[LinkInfo]) -> String {
    let of = |info: &LinkInfo| if let LinkInfo::Kind(kind) = info { Some(kind.to_string()) } else { None };
    infos.iter().find_map(of).unwrap_or_default()
}

fn vxlan(infos: &[LinkInfo]) -> Option<Vxlan> {
    let data = |info: &LinkInfo| {
        if let LinkInfo::Data(InfoData::Vxlan(data)) = info { Some(data.clone()) } else { None }
    };
    let mut vxlan =
        Vxlan { vni: 0, port: 0, local: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), learns: false };
    for attribute in infos.iter().find_map(data)? {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others are left to the kernel")]
        match attribute {
            InfoVxlan::Id(vni) => vxlan.vni = vni,
            InfoVxlan::Port(port) => vxlan.port = port,
            InfoVxlan::Local(address) => vxlan.local = address.into(),
            InfoVxlan::Local6(address) => vxlan.local = address.into(),
            InfoVxlan::Learning(learns) => vxlan.learns = learns,
            _ => {}
        }
    }
    Some(vxlan)
}

/// Makes a device that puts packets into others, up.
///
/// # Errors
/// `EEXIST` if there is a link of that name, or one with the same number and port; `EOPNOTSUPP` if
/// the kernel has no such devices.
pub(crate) async fn add_vxlan(
    handle: &Handle,
    (name, mac, mtu): (&str, [u8; 6], u32),
    vxlan: Vxlan,
) -> io::Result<()> {
    let link = LinkVxlan::new(name, vxlan.vni).port(vxlan.port).learning(vxlan.learns);
    let link = match vxlan.local {
        IpAddr::V4(address) => link.local(address),
        IpAddr::V6(address) => link.local6(address),
    };
    let link = sized(link.address(mac.into()).up(), mtu).build();
    handle.link().add(link).execute().await.map_err(to_io)
}

/// Makes a device of WireGuard, up.
///
/// # Errors
/// `EEXIST` if there is a link of that name; `EOPNOTSUPP` if the kernel has no such devices.
pub(crate) async fn add_wireguard(handle: &Handle, name: &str, mtu: u32) -> io::Result<()> {
    let link = sized(LinkWireguard::new(name).up(), mtu).build();
    handle.link().add(link).execute().await.map_err(to_io)
}

/// Sets the largest packet.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_mtu(handle: &Handle, index: u32, mtu: u32) -> io::Result<()> {
    set(handle, LinkUnspec::new_with_index(index).mtu(mtu)).await
}

/// Writes free text to the link, at most 255 bytes.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_alias(handle: &Handle, index: u32, alias: &str) -> io::Result<()> {
    set(handle, LinkUnspec::new_with_index(index).alias(alias)).await
}

/// Makes a bridge, up. Its hardware address is given, so that it does not follow
/// that of its ports.
///
/// # Errors
/// `EEXIST` if there is a link of that name.
pub(crate) async fn add_bridge(handle: &Handle, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<()> {
    let bridge = sized(LinkBridge::new(name).address(mac.into()).up(), mtu).build();
    handle.link().add(bridge).execute().await.map_err(to_io)
}

/// Makes a pair, with the other end born in `namespace` under its final name: at no
/// time does it exist here.
///
/// # Errors
/// `EEXIST` if either name is taken, where it shall be.
pub(crate) async fn add_pair(handle: &Handle, pair: &Pair<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(pair.peer_name)
        .address(pair.peer_mac.into())
        .setns_by_fd(namespace.as_raw_fd());
    let here = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(pair.name)
        .address(pair.mac.into())
        .controller(pair.controller)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(sized(peer, pair.mtu).build())))
        .up();
    handle.link().add(sized(here, pair.mtu).build()).execute().await.map_err(to_io)
}

fn sized<T>(link: LinkMessageBuilder<T>, mtu: u32) -> LinkMessageBuilder<T> {
    if mtu == 0 { link } else { link.mtu(mtu) }
}

/// Sets the link up.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_up(handle: &Handle, index: u32) -> io::Result<()> {
    set(handle, LinkUnspec::new_with_index(index).up()).await
}

/// Sets the link up, makes it a port of the bridge `controller`, and takes it out of any group.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_port(handle: &Handle, index: u32, controller: u32) -> io::Result<()> {
    set(handle, LinkUnspec::new_with_index(index).controller(controller).link_group(0).up()).await
}

/// Netfilter sees what goes from port to port of the bridge.
///
/// # Errors
/// The kernel's: `EOPNOTSUPP` if it cannot.
pub(crate) async fn let_netfilter_see(handle: &Handle, bridge: u32) -> io::Result<()> {
    let flags = vec![InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
    let message = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .index(bridge)
        .set_info_data(InfoData::Bridge(flags))
        .build();
    handle.link().change(message).execute().await.map_err(to_io)
}

/// Writes free text to the port of a bridge called `name`, at most 255 bytes, and lets it send back
/// what came in by it: to a pod that asks itself.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_up_port(handle: &Handle, name: &str, alias: &str) -> io::Result<()> {
    let hairpin = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let port = LinkUnspec::new_with_name(name).alias(alias);
    let message = port.set_port_kind(InfoPortKind::Bridge).set_port_data(hairpin).build();
    handle.link().change(message).execute().await.map_err(to_io)
}

/// Puts the link called `name`, if there is one, into a group.
///
/// # Errors
/// The kernel's.
pub(crate) async fn set_group(handle: &Handle, name: &str, group: u32) -> io::Result<()> {
    or_absent(set(handle, LinkUnspec::new_with_name(name).link_group(group)).await)
}

async fn set(handle: &Handle, link: LinkMessageBuilder<LinkUnspec>) -> io::Result<()> {
    handle.link().set(link.build()).execute().await.map_err(to_io)
}

/// Removes the link called `name`; of a veth pair, both ends. Afterwards there is
/// none, also if there was none before.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove(handle: &Handle, name: &str) -> io::Result<()> {
    let message = LinkUnspec::new_with_name(name).build();
    let request = rtnetlink::LinkDelRequest::new_with_message(handle.clone(), message);
    or_absent(request.execute().await.map_err(to_io))
}

/// Removes all links of a group.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove_group(handle: &Handle, group: u32) -> io::Result<()> {
    let message = LinkMessageBuilder::<LinkUnspec>::new().link_group(group).build();
    let request = rtnetlink::LinkDelRequest::new_with_message(handle.clone(), message);
    or_absent(request.execute().await.map_err(to_io))
}

fn or_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is(&error, Errno::ENODEV) => Ok(()),
        other => other,
    }
}
