// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title A contract wallet for tests: what its owner's key signed counts as signed by it (EIP-1271).
contract TestWallet {
    address public immutable owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (bytes32 r, bytes32 s) = abi.decode(signature[:64], (bytes32, bytes32));
        return ecrecover(hash, uint8(signature[64]), r, s) == owner ? this.isValidSignature.selector : bytes4(0);
    }
}

/// @title Makes such wallets at addresses that are known before (CREATE2).
contract TestWalletFactory {
    function create(address owner) external returns (address) {
        return address(new TestWallet{salt: 0}(owner));
    }

    function addressOf(address owner) external view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(TestWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), bytes32(0), code)))));
    }
}

/// @title A wallet that burns all gas that it is given.
contract GreedyWallet {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        while (true) {}
        return 0;
    }
}

/// @title A treasury that takes no money.
contract ClosedTreasury {}
