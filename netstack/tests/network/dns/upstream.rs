//! A name server of somebody else's, by UDP and TCP.

use crate::machine::Pod;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, rdata};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What it knows, and how it behaves.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    addresses: Mutex<BTreeMap<String, Ipv4Addr>>,
    long: Mutex<Option<String>>,
    life: AtomicU32,
    refuses: AtomicBool,
    heard: AtomicU32,
}

impl Server {
    /// It answers at `address` of `host` as long as the process lives.
    pub(crate) fn start(host: &Pod, address: &str) -> Arc<Self> {
        let address: SocketAddr = address.parse().unwrap();
        let (udp, tcp) =
            host.run(move || (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
        let server = Arc::new(Self {
            address,
            addresses: Mutex::default(),
            long: Mutex::default(),
            life: AtomicU32::new(300),
            refuses: AtomicBool::new(false),
            heard: AtomicU32::new(0),
        });
        let this = Arc::clone(&server);
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                let mut answer = this.answer(&packet[..length]);
                if answer.to_vec().unwrap().len() > 1232 {
                    answer = answer.truncate();
                }
                let _ = udp.send_to(&answer.to_vec().unwrap(), from);
            }
        });
        let this = Arc::clone(&server);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut packet).unwrap();
                let answer = this.answer(&packet).to_vec().unwrap();
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        server
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn knows(&self, name: &str, address: &str) {
        self.addresses.lock().unwrap().insert(name.to_owned(), address.parse().unwrap());
    }

    /// More than fits a datagram.
    pub(crate) fn knows_much(&self, name: &str) {
        *self.long.lock().unwrap() = Some(name.to_owned());
    }

    /// Its answers may be kept for so many seconds.
    pub(crate) fn lets_live(&self, seconds: u32) {
        self.life.store(seconds, SeqCst);
    }

    pub(crate) fn refuses(&self, refuses: bool) {
        self.refuses.store(refuses, SeqCst);
    }

    /// How many questions it has heard.
    pub(crate) fn heard(&self) -> u32 {
        self.heard.load(SeqCst)
    }

    fn answer(&self, packet: &[u8]) -> Message {
        self.heard.fetch_add(1, SeqCst);
        let asked = Message::from_vec(packet).unwrap();
        let mut answer = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
        let name = asked.queries[0].name().clone();
        answer.add_queries(asked.queries);
        if self.refuses.load(SeqCst) {
            answer.metadata.response_code = ResponseCode::Refused;
            return answer;
        }
        let life = self.life.load(SeqCst);
        let text = name.to_string();
        if let Some(address) = self.addresses.lock().unwrap().get(&text) {
            answer.add_answer(Record::from_rdata(name, life, RData::A(rdata::A(*address))));
        } else if self.long.lock().unwrap().as_deref() == Some(&text) {
            for number in 0..60 {
                let line = rdata::TXT::new(vec![format!("{number} {}", "x".repeat(60))]);
                answer.add_answer(Record::from_rdata(name.clone(), life, RData::TXT(line)));
            }
        } else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let name = |text: &str| Name::from_ascii(text).unwrap();
            let soa = rdata::SOA::new(name("ns.example.org."), name("x.example.org."), 1, 2, 3, 4, life);
            answer.add_authority(Record::from_rdata(name("example.org."), life, RData::SOA(soa)));
        }
        answer
    }
}
